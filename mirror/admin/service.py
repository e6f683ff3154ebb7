"""The admin service: carries out an operator's orders while requests go on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace

from mirror.admin.messages import OrderError, Record, Refused, Work
from mirror.admin.operations import OPERATIONS
from mirror.admin.operations.parts import LiveParts, OperationParts, Whole
from mirror.budget.budget import Budget
from mirror.budget.demand import Demand
from mirror.content.manifests.tags import Tags
from mirror.content.memory_cache import MemoryCache
from mirror.oci.digest import Digest
from mirror.statistics.recorder import Recorder
from mirror.storage.errors import StorageError
from mirror.storage.store import Store


class AdminService:
    """Carries out orders, each by the operation for its type.

    Removed content leaves the accounting, the disk, and memory. No response is cut: an open file
    stays readable, and a fetch stores its blob once proven, even if it was removed meanwhile.
    `altered` is the content that was found damaged, and was discarded, when the store was opened
    for the order: the first verify reports it. `live` has the parts of a daemon, None without one.
    `whole` is the daemon once it has been built, from this service among others.
    """

    whole: Whole | None = None

    def __init__(
        self,
        store: Store,
        tags: Tags,
        memory: MemoryCache,
        budget: Budget,
        demand: Demand,
        recorder: Recorder,
        altered: tuple[Digest, ...] = (),
        live: LiveParts | None = None,
    ) -> None:
        self._parts = OperationParts(
            store, tags, memory, budget, demand, recorder, altered=altered, live=live
        )

    def __repr__(self) -> str:
        return f"<AdminService of {self._parts.store!r}>"

    async def carry_out(
        self, order: Work, incoming: AsyncIterator[Record] | None = None
    ) -> AsyncGenerator[Record, None]:
        """Yield progress, and finally the result; an order that fails ends in Refused.

        `incoming` has the content that an order such as `import` asks for, after it has asked.
        """
        parts = replace(self._parts, incoming=incoming, whole=self.whole)
        try:
            async with aclosing(OPERATIONS[type(order)](parts, order)) as records:
                async for record in records:
                    yield record
        except OrderError as error:
            yield Refused(str(error), error.why)
        except StorageError as error:
            yield Refused(
                f"the data folder {self._parts.store.root} fails: {error.reason}", "failed"
            )
