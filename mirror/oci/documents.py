"""JSON that comes from anywhere: taken only where every reader reads the same."""

from __future__ import annotations

import json
from typing import Any, NoReturn

_DEEPEST = (
    64  # levels; the deepest that registries write has 6, and what we pass on is written anew
)


def read(body: bytes) -> dict[str, Any]:
    """Read an object; raises ValueError.

    Refused are a key that stands there twice and NaN, of which readers make different things
    (RFC 8259, 4 and 6), encodings beside UTF-8 (8.1), and what is nested too deeply to be written.
    """
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
    level: list[Any] = [document]
    for _ in range(_DEEPEST):
        level = [each for parent in level for each in _nested(parent)]
    return bool(level)


def _nested(parent: dict[str, Any] | list[Any]) -> list[Any]:
    children = parent.values() if isinstance(parent, dict) else parent
    return [child for child in children if isinstance(child, dict | list)]
