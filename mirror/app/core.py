"""The core: an open data folder, with the tags and the pulls that are noted in it.

A daemon, an order without a daemon and a simulation build it from the same settings, here.
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mirror.admin.service import AdminService
from mirror.app.max_size import in_bytes
from mirror.budget.account import BudgetPolicy
from mirror.budget.budget import Budget
from mirror.budget.demand import Demand
from mirror.budget.ledger import Ledger
from mirror.budget.shares import Shares
from mirror.content.manifests.tags import Tags
from mirror.content.memory_cache import MemoryCache
from mirror.oci.digest import Digest
from mirror.oci.names import Tag
from mirror.oci.patterns import Patterns
from mirror.settings import Settings
from mirror.statistics.history import History
from mirror.statistics.recorder import Recorder
from mirror.statistics.top import TopLists
from mirror.storage.blobs.filesystem import open_filesystem
from mirror.storage.data_folder import files_in
from mirror.storage.maintenance import overhead_of
from mirror.storage.metadata.rows import TagKey
from mirror.storage.metadata.sqlite.soundness import quick_fault
from mirror.storage.metadata.sqlite.store import SqliteMetadata, open_sqlite
from mirror.storage.startup import open_store
from mirror.storage.store import Store

if TYPE_CHECKING:
    from mirror.admin.operations.parts import LiveParts
    from mirror.admin.order_runner import OrderRunner


@dataclass(frozen=True, slots=True)
class Clocks:
    """The clocks of the core, in seconds: a monotonic `timer`, and the `wall` clock."""

    timer: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True)
class Core:
    """The parts that every use of a data folder has, loaded from it."""

    clocks: Clocks
    store: Store
    budget: Budget
    demand: Demand
    tags: Tags
    memory: MemoryCache
    recorder: Recorder


@asynccontextmanager
async def open_core(
    settings: Settings,
    folder: Path,
    clocks: Clocks | None = None,
    *,
    evicts: bool = True,
    spares: bool = False,
) -> AsyncIterator[Core]:
    """Open a data folder for as long as the context lasts.

    Without `evicts` the start removes nothing to make room, and with `spares` nothing at all, and
    the end writes nothing. Raises ConfigurationError, and StoreError if the folder cannot be used.
    """
    clocks = clocks or Clocks()
    async with _opened(settings, folder, evicts=evicts, spares=spares) as store:
        ledger = Ledger(store.index, ledger_keep=settings.ledger_keep, clock=clocks.wall)
        budget = Budget(ledger, budget_policies(settings), timer=clocks.timer)
        demand = Demand(ledger)
        tags = Tags(
            store.index,
            tag_ttl=settings.tag_ttl,
            missing_ttl=settings.missing_ttl,
            timer=clocks.timer,
            clock=clocks.wall,
            moved=store.pins.moved,
        )
        await budget.load()
        await demand.load(budget.longest)
        await tags.load()
        _resume_pins(store, tags)
        memory = MemoryCache(memory_cache=settings.memory_cache)
        history, top = History(store.index), TopLists(store.index)
        yield Core(
            clocks,
            store=store,
            budget=budget,
            demand=demand,
            tags=tags,
            memory=memory,
            recorder=Recorder(history, top, wall=clocks.wall, timer=clocks.timer),
        )


def _resume_pins(store: Store, tags: Tags) -> None:
    """Pin both contents of each pinned tag that had moved before its new content was whole."""
    for image in list(store.pins.images):
        if isinstance(image.reference, Tag):
            tagged = tags.peek(TagKey(image.repository, image.reference))
            if tagged is not None and store.catalog.get(tagged.found.digest) is not None:
                store.pins.resume(image.repository, image.reference, tagged.found.digest)


@asynccontextmanager
async def _opened(
    settings: Settings, folder: Path, *, evicts: bool, spares: bool
) -> AsyncIterator[Store]:
    max_size = in_bytes(settings.max_size, folder)
    opened_with = max_size if evicts else sys.maxsize
    store = await open_store(
        folder,
        opened_with,
        open_filesystem,
        open_sqlite,
        max_pinned=settings.max_pinned.fraction,
        spares=spares,
    )
    try:
        if not evicts:
            store.bound_by(max_size)
        yield store
    finally:
        await (store.leave() if spares else store.close())


def index_bytes(folder: Path) -> int:
    """Return the bytes of the index in a data folder, as `mirror du` counts; raises OSError."""
    return overhead_of(files_in(folder), SqliteMetadata.log_bytes, SqliteMetadata.is_log)


def index_fault(index: Path) -> str | None:
    """Return the damage of an index that may be in use; None if it is sound."""
    return quick_fault(index)


def budget_policies(settings: Settings) -> dict[str, BudgetPolicy]:
    """Return the policy of each upstream's pull budget."""
    shares = Shares(shares=settings.shares)
    return {
        name: BudgetPolicy(
            user=upstream.account_name,
            pull_limit=upstream.pull_limit,
            pull_window=upstream.pull_window,
            reserve=upstream.reserve,
            reserved_for=Patterns(upstream.reserved_for),
            shares=shares,
            max_stale=settings.max_stale,
        )
        for name, upstream in settings.upstreams.items()
    }


def build_admin_service(
    core: Core, altered: tuple[Digest, ...] = (), live: Callable[[], LiveParts] | None = None
) -> AdminService:
    """Return the service of orders; `altered` are the blobs that the start found damaged.

    `live` returns the parts of a daemon, None without one.
    """
    return AdminService(partial(_build_runner, core, altered, live))


def _build_runner(
    core: Core, altered: tuple[Digest, ...], live: Callable[[], LiveParts] | None
) -> OrderRunner:
    from mirror.admin.order_runner import OrderRunner

    return OrderRunner(
        store=core.store,
        tags=core.tags,
        memory=core.memory,
        budget=core.budget,
        demand=core.demand,
        recorder=core.recorder,
        altered=altered,
        live=live() if live is not None else None,
    )
