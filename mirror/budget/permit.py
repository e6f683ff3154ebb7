"""The permit of a pull: its cost is reserved while it runs, or it waits for the running pulls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

from mirror.budget.account import Account, Verdict
from mirror.budget.pull_request import PullRequest
from mirror.oci.errors import TooManyRequests


class PermitQueue:
    """The permits of one account that wait until a running pull has ended."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    def __repr__(self) -> str:
        return f"<PermitQueue: {len(self._waiting)} waiting>"

    async def changed(self) -> None:
        """Wait until a pull has ended."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future

    def wake(self) -> None:
        """Have all waiting permits decided anew."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


class Permit:
    """The right to one pull, by a verdict. Its cost is reserved until the permit is left.

    Raises TooManyRequests if the verdict is a refusal.
    """

    def __init__(
        self,
        account: Account,
        request: PullRequest,
        verdict: Verdict | TooManyRequests,
        queue: PermitQueue,
        timer: Callable[[], float],
    ) -> None:
        self._account = account
        self._request = request
        self._queue = queue
        self._timer = timer
        self._granted = False
        self._consider(verdict)

    def __repr__(self) -> str:
        return f"<Permit {'granted' if self._granted else 'pending'}: {self._request}>"

    async def __aenter__(self) -> None:
        """Wait while the verdict depends on running pulls; raises TooManyRequests."""
        while not self._granted:
            # Decided before each wait: the running pulls may have ended meanwhile.
            self._consider(self._account.verdict(self._request, self._timer()))
            if not self._granted:
                await self._queue.changed()

    def _consider(self, verdict: Verdict | TooManyRequests) -> None:
        if isinstance(verdict, TooManyRequests):
            raise verdict
        if verdict is Verdict.GRANTED:
            self._granted = True
            self._account.take(self._request)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._granted:
            self._account.release(self._request)
            self._queue.wake()
