"""A value that many viewers look at: asked for again only after some seconds."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

V = TypeVar("V")


class Kept(Generic[V]):
    """The last value; after `seconds` it is asked for again."""

    def __init__(self, seconds: float, timer: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._timer = timer
        self._value: V | None = None
        self._until = -math.inf

    def __repr__(self) -> str:
        return f"<Kept for {self._seconds:g} s>"

    async def get(self, ask: Callable[[], Awaitable[V]]) -> V:
        """Return the value; callers at the same time may each ask."""
        if self._value is None or self._timer() >= self._until:
            self._value = await ask()
            self._until = self._timer() + self._seconds
        return self._value
