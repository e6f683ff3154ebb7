"""The permit of a pull: its cost is reserved while it runs, or it waits for the running pulls."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from mirror.budget.account import Account, Verdict
from mirror.budget.pull_request import PullRequest
from mirror.oci.errors import TooManyRequests
from mirror.util.notifier import Notifier


class Permit:
    """The right to one pull, by a verdict. Its cost is reserved until the permit is left.

    `changes` notifies of each pull of the account that has ended. Raises TooManyRequests if the
    verdict is a refusal.
    """

    def __init__(
        self,
        account: Account,
        request: PullRequest,
        verdict: Verdict | TooManyRequests,
        changes: Notifier,
        timer: Callable[[], float],
    ) -> None:
        self._account = account
        self._request = request
        self._changes = changes
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
                await self._changes.changed()

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
            self._changes.notify()
