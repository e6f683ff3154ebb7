"""The pulls of `warm`: a run that leaves pulls to clients does so beside other runs, too."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Self

from mirror.admin.operations.warm_bounds import NotWarmed
from mirror.budget.budget import Budget


class WarmPulls:
    """The pulls of all runs, by upstream.

    While a run leaves pulls, those of all runs go one after the other: each answer tells how many
    are left. The pulls for the platforms of an index are held for it once it has been pulled.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._leaving = 0  # runs that leave pulls
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._held: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<WarmPulls: {self._leaving} runs leave some, {self._held.total()} held>"

    @property
    def all_may_go(self) -> bool:
        """Whether no run leaves pulls."""
        return not self._leaving

    @contextmanager
    def run(self, leave: int | None) -> Iterator[None]:
        """Count a run in until it ends."""
        self._leaving += leave is not None
        try:
            yield
        finally:
            self._leaving -= leave is not None

    def left(self, upstream: str) -> int | None:
        """Return the pulls that an upstream allows now; None without a limit."""
        return self._budget.present(upstream).window.left(self._budget.now())

    def check(self, upstream: str, pulls: int, leave: int | None, own: int = 0) -> None:
        """Raise NotWarmed if pulls would leave too few; `own` ones are held for the same image."""
        left, others = self.left(upstream), self._held[upstream] - own
        if leave is None or left is None or left - others - pulls >= leave:
            return
        held = f", {others} of them for other images" if others > 0 else ""
        raise NotWarmed(
            f"{left} pulls of {upstream} are left{held}, and it needs {pulls}: "
            f"{leave} are to be left"
        )

    def turn(self, upstream: str) -> asyncio.Lock:
        """Return the turn to spend pulls of an upstream."""
        return self._turns[upstream]

    def hold(self, upstream: str, pulls: int) -> None:
        """Hold pulls, or fewer if negative."""
        self._held[upstream] += pulls


class ImagePulls:
    """The pulls of one image: a context, at the end of which none is held any more."""

    def __init__(self, pulls: WarmPulls, upstream: str, leave: int | None) -> None:
        self._pulls = pulls
        self._upstream = upstream
        self._leave = leave
        self._held = 0

    def __repr__(self) -> str:
        return f"<ImagePulls of {self._upstream}: {self._held} held>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._hold(0)

    @property
    def all_may_go(self) -> bool:
        """Whether no run leaves pulls."""
        return self._pulls.all_may_go

    @asynccontextmanager
    async def spending(self, pulls: int) -> AsyncIterator[None]:
        """Allow one pull of so many that follow each other; raises NotWarmed."""
        if self.all_may_go:
            yield
            return
        async with self._pulls.turn(self._upstream):
            self._pulls.check(self._upstream, pulls, self._leave, own=self._held)
            yield
            self._hold(max(pulls, self._held) - 1)

    def _hold(self, pulls: int) -> None:
        self._pulls.hold(self._upstream, pulls - self._held)
        self._held = pulls
