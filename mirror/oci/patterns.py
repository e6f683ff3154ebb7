"""Patterns of repository names: `library/*`, `org/**`."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WILD = {"**": ".*", "*": "[^/]*"}


class Patterns:
    """A set of patterns: `*` stands for any part of a name between slashes, `**` for more of it."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = tuple(patterns)
        self._compiled = [re.compile(_regex(pattern), re.ASCII) for pattern in self._patterns]

    def __repr__(self) -> str:
        return f"<Patterns: {self}>"

    def __str__(self) -> str:
        return ", ".join(self._patterns) or "none"

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def match(self, name: str) -> bool:
        """Whether any of them is the whole of a repository's name."""
        return any(pattern.fullmatch(name) for pattern in self._compiled)


def check_pattern(text: str) -> str:
    """Return a pattern that could match a repository's name; raises ValueError."""
    if not re.fullmatch(r"[a-z0-9*][a-z0-9._/*-]*", text, re.ASCII) or "***" in text:
        raise ValueError(
            "a pattern of repositories is wanted, such as library/* or org/**: "
            "* is any part between slashes, ** any parts"
        )
    return text


def _regex(pattern: str) -> str:
    parts = re.split(r"(\*\*|\*)", pattern)
    return "".join(_WILD.get(part, re.escape(part)) for part in parts)
