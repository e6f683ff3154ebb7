"""Challenges of a registry, in WWW-Authenticate (RFC 9110, 11.6.1)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

_WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# One piece of a challenge list: a parameter, or else a scheme with an optional token68.
_PIECE = re.compile(
    rf"""[\s,]*(?:
        (?P<key>{_WORD})[ \t]*=[ \t]*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>{_WORD}))
            (?=[\s,]|$)
      | (?P<scheme>{_WORD})(?:[ ]+(?P<token68>[A-Za-z0-9\-._~+/]+=*)(?=\s*(?:,|$)))?(?=[\s,]|$)
    )""",
    re.VERBOSE | re.ASCII,
)
_LONGEST = 4096  # characters of all challenges in a response; one for many scopes has 1000
_ESCAPE = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """A challenge: the scheme in lower case, and parameters by lower-case name."""

    scheme: str
    params: dict[str, str] = field(default_factory=dict)


def parse(headers: Iterable[str]) -> list[Challenge]:
    """Parse the challenges of all header lines; a syntax error ends its line.

    A line beyond the total length limit is ignored.
    """
    read: list[Challenge] = []
    left = _LONGEST
    for header in headers:
        if len(header) <= left:
            left -= len(header)
            read += _read_line(header)
    return read


def choose(challenges: Iterable[Challenge], schemes: Collection[str]) -> Challenge | None:
    """Select the challenge to answer: Bearer before Basic, among the given schemes."""
    by_scheme = {challenge.scheme: challenge for challenge in reversed(list(challenges))}
    bearer = by_scheme.get("bearer") if "bearer" in schemes else None
    if bearer is not None and "realm" in bearer.params:
        return bearer
    return by_scheme.get("basic") if "basic" in schemes else None


def _read_line(header: str) -> Iterator[Challenge]:
    current: Challenge | None = None
    position = 0
    while match := _PIECE.match(header, position):
        position = match.end()
        if match["scheme"]:
            if current is not None:
                yield current
            current = Challenge(match["scheme"].lower())
        elif current is not None:
            value = match["plain"]
            if value is None:
                value = _ESCAPE.sub(r"\1", match["quoted"])
            current.params.setdefault(match["key"].lower(), value)
    if current is not None:
        yield current
