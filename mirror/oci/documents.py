"""JSON that comes from anywhere: taken only where every reader reads the same."""

from __future__ import annotations

import json
from typing import Any, NoReturn

# Levels; the deepest that registries write has 6, and what we pass on is written anew.
_DEEPEST = 64
# There are no more values than commas and brackets: a manifest of 4 MiB with nothing but the
# shortest descriptors there are has 200,000 of these, and a tag of a listing has one.
_MARKS = (b",", b"[", b"]", b"{", b"}")
_MOST_MARKS = 250_000


def read(body: bytes) -> dict[str, Any]:
    """Read an object; raises ValueError.

    Refused are a key that stands there twice and NaN, of which readers make different things
    (RFC 8259, 4 and 6), encodings beside UTF-8 (8.1), what is nested too deeply to be written, and
    more values than can be read without holding everybody up: that is seen before any is made.
    """
    if sum(map(body.count, _MARKS)) > _MOST_MARKS:
        raise ValueError("too many values")
    try:
        document = json.loads(
            body.decode(), object_pairs_hook=_object, parse_constant=_refuse_constant
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(document, dict) or _is_deeper(document):
        raise ValueError("no object, or nested too deeply")
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _is_deeper(document: dict[str, Any]) -> bool:
    """Look level by level: what is nested deeply must not be walked by recursion."""
    level: list[dict[str, Any] | list[Any]] = [document]
    for _ in range(_DEEPEST):
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) is dict or type(child) is list  # isinstance takes three times as long
        ]
    return bool(level)
