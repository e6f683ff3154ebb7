"""Variables in texts, as shells, compose files and Dockerfiles write them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_DEEPEST = 8  # levels of defaults within defaults
_LONGEST = 4096  # characters; an image's name has some hundred at most


class Unset(Exception):
    """A text has a variable without a value, or in a form that is not known."""


class _Anything(Mapping[str, str]):
    """All variables are set: for a default that is read over, and not used."""

    def __getitem__(self, name: str) -> str:
        return ""

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def substitute(text: str, values: Mapping[str, str]) -> str:
    """Replace the variables of a text, of the forms `$X`, `${X}`, `${X:-default}`, `${X:+other}`.

    `$$` is a dollar. Without the colon, an empty value counts as a value. Raises Unset.
    """
    result, at = _substituted(text, 0, values, 0)
    if at != len(text) or len(result) > _LONGEST:
        raise Unset("the text is too long, or has a brace too many")
    return result


def _substituted(text: str, at: int, values: Mapping[str, str], depth: int) -> tuple[str, int]:
    """Replace up to the end, or the brace that ends a default; returns the result and the place."""
    if depth > _DEEPEST or len(text) > _LONGEST:
        raise Unset("the text is too long, or its variables are nested too deeply")
    parts: list[str] = []
    while at < len(text) and not (depth and text[at] == "}"):
        if text[at] != "$":
            parts.append(text[at])
            at += 1
        elif text.startswith("$$", at):
            parts.append("$")
            at += 2
        else:
            value, at = _variable(text, at + 1, values, depth)
            parts.append(value)
    return "".join(parts), at


def _variable(text: str, at: int, values: Mapping[str, str], depth: int) -> tuple[str, int]:
    braced = text.startswith("{", at)
    found = _NAME.match(text, at + braced)
    if found is None:
        raise Unset("a variable has no name")
    name, at = found[0], found.end()
    if not braced or text.startswith("}", at):
        return _value(name, values), at + braced
    colon = text.startswith(":", at)
    operator = text[at + colon : at + colon + 1]
    if operator not in ("-", "+", "?"):
        raise Unset(f"the form of variable {name} is not known")
    given = bool(values.get(name)) if colon else name in values
    takes_other = given if operator == "+" else operator == "-" and not given
    among = values if takes_other else _Anything()
    other, at = _substituted(text, at + colon + 1, among, depth + 1)
    if not text.startswith("}", at):
        raise Unset(f"a brace is missing after variable {name}")
    if takes_other:
        return other, at + 1
    return "" if operator == "+" else _value(name, values if given else {}), at + 1


def _value(name: str, values: Mapping[str, str]) -> str:
    try:
        value = values[name]
    except KeyError:
        raise Unset(f"variable {name} is not set") from None
    if len(value) > _LONGEST:
        raise Unset(f"variable {name} is too long")
    return value
