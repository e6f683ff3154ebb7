"""Crashes at every system call: the real daemon under strace, killed or failed at the n-th."""
