"""The findings of the doctor's checks, by their state."""

from __future__ import annotations

from mirror.admin.messages import Finding


def ok(check: str, words: str) -> Finding:
    """Return the finding of a check that passed."""
    return Finding(check, "ok", words)


def warn(check: str, words: str, advice: str) -> Finding:
    """Return the finding of something that works, but not well or not for long."""
    return Finding(check, "warn", words, advice)


def fail(check: str, words: str, advice: str) -> Finding:
    """Return the finding of something that prevents pulls, or a start."""
    return Finding(check, "fail", words, advice)
