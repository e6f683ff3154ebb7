"""The admin service: carries out an operator's orders while requests go on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING

from mirror.util.deferred import Deferred

if TYPE_CHECKING:
    from mirror.admin.import_source import ImportSource
    from mirror.admin.messages import Record, Work
    from mirror.admin.operations.parts import Whole
    from mirror.admin.order_runner import OrderRunner


class AdminService:
    """Carries out orders, each by the operation for its type; the first order loads them all.

    Removed content leaves the accounting, the disk, and memory. No response is cut: an open file
    stays readable, and a fetch stores its blob once proven, even if it was removed meanwhile.
    `build` makes the runner of orders, for which it loads modules. `whole` is the daemon, for the
    orders that no part can carry out.
    """

    whole: Deferred[Whole] | None = None

    def __init__(self, build: Callable[[], OrderRunner]) -> None:
        self._runner = Deferred(build)

    def __repr__(self) -> str:
        return f"<AdminService: {self._runner!r}>"

    async def carry_out(
        self, order: Work, source: ImportSource | None = None
    ) -> AsyncGenerator[Record, None]:
        """Yield progress, and finally the result; an order that fails ends in Refused.

        `source` is the layout of an import.
        """
        runner = await self._runner.get()
        async with aclosing(runner.run(order, source, self.whole)) as records:
            async for record in records:
                yield record
