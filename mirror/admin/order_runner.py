"""Carries out each order by the operation for its type: this module loads all operations."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from mirror.admin.import_source import ImportSource
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
from mirror.util.deferred import Deferred


class OrderRunner:
    """Carries out orders on the parts of a mirror.

    `altered` is the content that was found damaged, and was discarded, when the store was opened
    for the order: the first verify reports it. `live` has the parts of a daemon, None without one.
    """

    def __init__(
        self,
        store: Store,
        tags: Tags,
        memory: MemoryCache,
        budget: Budget,
        demand: Demand,
        recorder: Recorder,
        altered: tuple[Digest, ...],
        live: LiveParts | None,
    ) -> None:
        self._parts = OperationParts(
            store, tags, memory, budget, demand, recorder, altered=altered, live=live
        )

    def __repr__(self) -> str:
        return f"<OrderRunner of {self._parts.store!r}>"

    async def run(
        self, order: Work, source: ImportSource | None, whole: Deferred[Whole] | None
    ) -> AsyncGenerator[Record, None]:
        """Yield progress, and finally the result; an order that fails ends in Refused."""
        parts = replace(self._parts, source=source, whole=whole)
        try:
            async with aclosing(OPERATIONS[type(order)](parts, order)) as records:
                async for record in records:
                    yield record
        except OrderError as error:
            yield Refused(str(error), error.why)
        except StorageError as error:
            yield Refused(f"the data folder {parts.store.root} fails: {error.reason}", "failed")
