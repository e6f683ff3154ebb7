"""Results of long walks, kept so that walks take a twentieth of a thread at most."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from cachetools import TLRUCache

if TYPE_CHECKING:
    from mirror.admin.operations.image_walk import ImageWalk

V = TypeVar("V")
_TIMES = 20  # a result is valid for this multiple of the time that it took
_INSTANT = 0.002  # seconds; a result that took no longer is not kept
_MOST_COUNTS = 64


class ResultCache(Generic[V]):
    """Results by name, each valid for 20 times as long as it took; the oldest make room."""

    def __init__(self, most: int, timer: Callable[[], float] = time.monotonic) -> None:
        self._kept: TLRUCache[str | None, tuple[V, float]] = TLRUCache(
            most, ttu=lambda _, made, now: now + made[1] * _TIMES, timer=timer
        )

    def __repr__(self) -> str:
        return f"<ResultCache: {len(self._kept)} results>"

    def get(self, name: str | None) -> V | None:
        """Return a result; None if none is valid."""
        made = self._kept.get(name)
        return None if made is None else made[0]

    def expired(self) -> list[V]:
        """Give up the results that are no longer valid, and return them, to be freed elsewhere."""
        return [made for _, (made, _) in self._kept.expire()]

    def put(self, name: str | None, result: V, took: float) -> None:
        """Keep a result that took so many seconds of a thread."""
        if took > _INSTANT:
            self._kept[name] = (result, took)


class KeptLists:
    """The number of images of each pattern, and the last walks past all images.

    `naming` and `walking` are held by the one order that walks: a page of names does not wait for
    a walk past all images.
    """

    def __init__(self) -> None:
        self.counts: ResultCache[int] = ResultCache(_MOST_COUNTS)
        self.walks: ResultCache[ImageWalk] = ResultCache(1)
        self.naming = asyncio.Lock()
        self.walking = asyncio.Lock()
