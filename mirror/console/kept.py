"""Values that many viewers look at: made again only after some seconds."""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class Kept(Generic[V]):
    """The last value of each key; after `seconds` it is made again, once for all callers."""

    def __init__(self, seconds: float, timer: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._timer = timer
        self._values: dict[Hashable, tuple[float, V]] = {}
        self._locks: defaultdict[Hashable, asyncio.Lock] = defaultdict(asyncio.Lock)

    def __repr__(self) -> str:
        return f"<Kept for {self._seconds:g} s: {len(self._values)}>"

    async def get(self, make: Callable[[], Awaitable[V]], key: Hashable = None) -> V:
        """Return the value of a key; there are as many as the pages have keys."""
        async with self._locks[key]:
            until, value = self._values.get(key, (-math.inf, None))
            if value is None or self._timer() >= until:
                value = await make()
                self._values[key] = self._timer() + self._seconds, value
            return value
