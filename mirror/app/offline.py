"""Orders carried out offline: the command itself opens the data folder, as the folder's owner."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path

from mirror.admin.messages import GcOrder, PurgeOrder, Record, VerifyOrder, Work
from mirror.app.core import build_admin_service, open_core
from mirror.settings import Settings


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
    async with open_core(settings, folder, evicts=False, spares=dry) as core:
        service = build_admin_service(core, tuple(core.store.altered))
        async with aclosing(service.carry_out(order)) as records:
            async for record in records:
                yield record
