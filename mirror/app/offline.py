"""Orders without a daemon: the command itself opens the data folder, as the folder's owner."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path

from mirror.admin.messages import GcOrder, PurgeOrder, Record, VerifyOrder, Work
from mirror.admin.service import AdminService
from mirror.app import conversions, quota
from mirror.budget.budget import Budget
from mirror.budget.demand import Demand
from mirror.budget.ledger import Ledger
from mirror.content.manifests.tags import Tags
from mirror.content.memory_cache import MemoryCache
from mirror.settings import Settings
from mirror.storage.startup import open_store


def carry_out(settings: Settings, folder: Path, order: Work) -> Iterator[Record]:
    """Open the data folder and carry out an order; raises StoreError, or OrderError."""
    _become_owner(folder)
    records = _carried_out(settings, folder, order)
    with asyncio.Runner() as runner:
        try:
            while (record := runner.run(_next(records))) is not None:
                yield record
        finally:
            runner.run(records.aclose())


def _become_owner(folder: Path) -> None:
    """Switch from root to the folder's owner: the owner's daemon could not open root's files."""
    owner = folder.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    # A user that systemd makes up (DynamicUser) reaches its folder only within its service, and
    # modules that are imported later may lie in root's home.
    wanted = {folder: os.W_OK | os.X_OK, Path(os.__file__): os.R_OK, Path(__file__): os.R_OK}
    if not all(os.access(path, rights, effective_ids=True) for path, rights in wanted.items()):
        os.seteuid(0)
        os.setegid(0)


async def _next(records: AsyncGenerator[Record, None]) -> Record | None:
    return await anext(records, None)


async def _carried_out(
    settings: Settings, folder: Path, order: Work
) -> AsyncGenerator[Record, None]:
    # Opened without a bound: a look at the stored content must not evict any of it.
    dry = isinstance(order, VerifyOrder | GcOrder | PurgeOrder) and order.dry
    store = await open_store(folder, sys.maxsize, spares=dry)
    try:
        store.change_max_size(quota.in_bytes(settings.max_size, folder))
        tags = Tags(store.index, tag_ttl=settings.tag_ttl, missing_ttl=settings.missing_ttl)
        await tags.load()
        ledger = Ledger(store.index, ledger_keep=settings.ledger_keep)
        budget, demand = Budget(ledger, conversions.budgets(settings)), Demand(ledger)
        await budget.load()
        await demand.load(budget.longest)
        memory = MemoryCache(memory_cache=settings.memory_cache)
        service = AdminService(store, tags, memory, budget, demand, tuple(store.altered))
        async with aclosing(service.carry_out(order)) as records:
            async for record in records:
                yield record
    finally:
        await (store.leave() if dry else store.close())
