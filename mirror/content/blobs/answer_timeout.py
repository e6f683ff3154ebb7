"""The timeout of an answer from upstream, set while its question is under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mirror.content.blobs.progress import Preempted


class AnswerTimeout:
    """Bounds the running question once another repository can be asked instead."""

    def __init__(self) -> None:
        self._running: asyncio.Timeout | None = None  # until upstream answers

    def __repr__(self) -> str:
        return f"<AnswerTimeout: {self._running or 'no question'}>"

    @asynccontextmanager
    async def awaited(self) -> AsyncIterator[None]:
        """Run a question, without a bound at first; raises Preempted once a bound has passed."""
        try:
            async with asyncio.timeout(None) as self._running:
                yield
        except TimeoutError:
            if self._running is None or not self._running.expired():
                raise
            raise Preempted("upstream is slow to answer for this repository") from None
        finally:
            self._running = None

    def bound(self, seconds: float) -> None:
        """Bound the running question, from now on; a bound that is set stays as it is."""
        if self._running is not None and self._running.when() is None:
            self._running.reschedule(asyncio.get_running_loop().time() + seconds)
