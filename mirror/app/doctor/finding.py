"""A finding of the doctor: one check, its state, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check, in words; `advice` says how it is mended, "" if it is `ok`."""

    check: str
    state: State
    words: str
    advice: str = ""


def ok(check: str, words: str) -> Finding:
    """Return the finding of a check that passed."""
    return Finding(check, "ok", words)


def warn(check: str, words: str, advice: str) -> Finding:
    """Return the finding of something that works, but not well or not for long."""
    return Finding(check, "warn", words, advice)


def fail(check: str, words: str, advice: str) -> Finding:
    """Return the finding of something that prevents pulls, or a start."""
    return Finding(check, "fail", words, advice)
