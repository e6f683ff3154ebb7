"""JSON that comes from anywhere: taken only where every reader reads the same."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar

from mirror.uncollected import uncollected

_Rest = ParamSpec("_Rest")
_Read = TypeVar("_Read")

# Levels; the deepest that registries write has 6, and what we pass on is written anew.
_DEEPEST = 64
# There are no more values than commas and brackets: a manifest of 4 MiB with nothing but the
# shortest descriptors there are has 200,000 of these, and a tag of a listing has one.
_MARKS = (b",", b"[", b"]", b"{", b"}")
_MOST_MARKS = 250_000
_VALUE = 64  # bytes of memory to each mark: a string has 57 beside its text, an object 184 and more
_LONG = 64 * 1024  # bytes; shorter ones are read in less time than a thread takes to be asked
# A thread shares the interpreter with the event loop: two at work gain nothing, and the loop has to
# wait for both in turn, for 213 ms at worst where one takes 150 (measured).
_THREAD = ThreadPoolExecutor(1, thread_name_prefix="documents")


async def aside(
    reader: Callable[Concatenate[bytes, _Rest], _Read],
    body: bytes,
    *args: _Rest.args,
    **kwargs: _Rest.kwargs,
) -> _Read:
    """Have a document read, a long one on a thread of its own: it takes a tenth of a second."""
    if len(body) < _LONG:
        return reader(body, *args, **kwargs)
    work = partial(uncollected()(reader), body, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_THREAD, work)


def read(body: bytes, *, anew: bool = False) -> dict[str, Any]:
    """Read an object, to be written `anew` perhaps; raises ValueError.

    Refused are a key that stands there twice and NaN, of which readers make different things
    (RFC 8259, 4 and 6), encodings beside UTF-8 (8.1), what is nested too deeply to be written, and
    more values than can be read without holding everybody up: that is seen before any is made. Of
    what is written anew, numbers must be finite: 1e999 would become Infinity, which is no JSON.
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
        raise ValueError("no object, or nested too deeply")
    return document


def memory(body: bytes) -> int:
    """Return about how many bytes of memory a document takes once it is read."""
    return len(body) + _VALUE * _marks(body)


def _marks(body: bytes) -> int:
    return sum(map(body.count, _MARKS))


def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its members; raises ValueError where a key stands there twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


def refuse_constant(text: str) -> NoReturn:
    """Refuse NaN and the infinities, which are no JSON."""
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def is_deep(value: object) -> bool:
    """Look level by level: what is nested deeply must not be walked by recursion."""
    level: list[Any] = [value] if isinstance(value, dict | list) else []
    for _ in range(_DEEPEST):
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) is dict or type(child) is list  # isinstance takes three times as long
        ]
    return bool(level)
