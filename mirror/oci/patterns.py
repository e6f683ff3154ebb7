"""Patterns of repository names: `library/*`, `org/**`."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WILD = {"**": ".*", "*": "[^/]*"}


class Patterns:
    """A set of patterns: `*` matches within one path component, `**` across components."""

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
        """Whether any pattern matches a whole repository name."""
        return any(pattern.fullmatch(name) for pattern in self._compiled)


def check_pattern(text: str) -> str:
    """Return a pattern that can match a repository name; raises ValueError."""
    if not re.fullmatch(r"[a-z0-9*][a-z0-9._/*-]*", text, re.ASCII) or "***" in text:
        raise ValueError(
            "not a pattern of repositories, such as library/* or org/**: "
            "* matches between slashes, ** across slashes"
        )
    return text


def _regex(pattern: str) -> str:
    parts = re.split(r"(\*\*|\*)", pattern)
    return "".join(_WILD.get(part, re.escape(part)) for part in parts)
