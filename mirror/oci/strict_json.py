"""Strict JSON: untrusted documents, accepted only if all readers give them the same meaning."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar

from mirror.util.gc_pause import gc_paused

_Rest = ParamSpec("_Rest")
_Read = TypeVar("_Read")

# Levels. Known registries write at most 6, and documents that are passed on are rewritten.
_DEEPEST = 64
# An upper bound for the number of values: one per comma or bracket. A 4 MiB manifest of the
# shortest possible descriptors has 200,000 of these; a tag in a listing has one.
_MARKS = (b",", b"[", b"]", b"{", b"}")
_MOST_MARKS = 250_000
_VALUE = 64  # bytes of memory per mark: a string takes 57 plus its text, an object 184 or more
_LONG = 64 * 1024  # bytes; a shorter document is parsed faster than a thread can be handed it
# One thread only: threads share the interpreter with the event loop. A second one gains nothing,
# and the loop would wait for both in turn: at worst 213 ms where one takes 150 (measured).
_THREAD = ThreadPoolExecutor(1, thread_name_prefix="documents")


async def on_thread(
    reader: Callable[Concatenate[bytes, _Rest], _Read],
    body: bytes,
    *args: _Rest.args,
    **kwargs: _Rest.kwargs,
) -> _Read:
    """Parse a document; a long one on a worker thread, as it takes a tenth of a second."""
    if len(body) < _LONG:
        return reader(body, *args, **kwargs)
    work = partial(gc_paused()(reader), body, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_THREAD, work)


def read(body: bytes, *, anew: bool = False) -> dict[str, Any]:
    """Parse a JSON object; raises ValueError. `anew` if it will be written again.

    Refused are duplicate keys and NaN, which parsers read differently (RFC 8259, 4 and 6),
    encodings other than UTF-8 (8.1), nesting too deep to be written, and more values than can be
    parsed without blocking the process: these are counted before parsing. With `anew`, numbers must
    be finite: 1e999 would be written as Infinity, which is not JSON.
    """
    if _marks(body) > _MOST_MARKS:
        raise ValueError("too many values")
    try:
        document = json.loads(
            body.decode(),
            object_pairs_hook=members,
            parse_constant=refuse_constant,
            parse_float=_finite if anew else None,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(document, dict) or is_deep(document):
        raise ValueError("not an object, or nested too deeply")
    return document


def memory(body: bytes) -> int:
    """Estimate the bytes of memory that a parsed document takes."""
    return len(body) + _VALUE * _marks(body)


def _marks(body: bytes) -> int:
    return sum(map(body.count, _MARKS))


def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dict of an object's members; raises ValueError for a duplicate key."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("duplicate key")
    return found


def refuse_constant(text: str) -> NoReturn:
    """Reject NaN and the infinities, which are not JSON."""
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def is_deep(value: object) -> bool:
    """Whether a value is nested too deeply.

    Works level by level, because recursion could overflow the stack.
    """
    level: list[Any] = [value] if isinstance(value, dict | list) else []
    for _ in range(_DEEPEST):
        if not level:  # most values are flat: the rest of the loop took half the time of a list
            return False
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) is dict or type(child) is list  # isinstance takes three times as long
        ]
    return bool(level)
