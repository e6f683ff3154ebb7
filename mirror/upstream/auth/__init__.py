"""Logging in: as whom an upstream is asked, where that is known from, and who is told."""
