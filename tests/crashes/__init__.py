"""Crashes at system calls: the real daemon under strace, killed or failed at the n-th call."""
