"""Orders carried out offline: the command itself opens the data folder, as the folder's owner."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

from mirror.admin.command_source import CommandSource
from mirror.admin.messages import (
    ExportOrder,
    GcOrder,
    PurgeOrder,
    Record,
    VerifyOrder,
    Wanted,
    Work,
)
from mirror.admin.transfer import Supply
from mirror.app.core import build_admin_service, open_core
from mirror.settings import Settings


def carry_out(
    settings: Settings, folder: Path, order: Work, supply: Supply | None = None
) -> Iterator[Record]:
    """Open the data folder and carry out an order; raises StoreError, or OrderError.

    `supply` has the content that the order asks for.
    """
    _become_owner(folder)
    supplied = _Supplied()
    records = _carried_out(settings, folder, order, supplied)
    with asyncio.Runner() as runner:
        try:
            while (record := runner.run(_next(records))) is not None:
                if isinstance(record, Wanted) and supply is not None:
                    supplied.records = iter(supply(record))
                else:
                    yield record
        finally:
            runner.run(records.aclose())


class _Supplied:
    """The content that was wanted last; it is read on the event loop, which has no other task."""

    def __init__(self) -> None:
        self.records: Iterator[Record] = iter(())

    def __aiter__(self) -> _Supplied:
        return self

    async def __anext__(self) -> Record:
        try:
            return next(self.records)
        except StopIteration:
            raise StopAsyncIteration from None


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
    settings: Settings, folder: Path, order: Work, supplied: AsyncIterator[Record]
) -> AsyncGenerator[Record, None]:
    # Opened without a bound: a look at the stored content must not evict any of it.
    dry = isinstance(order, VerifyOrder | GcOrder | PurgeOrder) and order.dry
    dry = dry or isinstance(order, ExportOrder)
    async with open_core(settings, folder, evicts=False, spares=dry) as core:
        service = build_admin_service(core, tuple(core.store.altered))
        async with aclosing(service.carry_out(order, CommandSource(supplied))) as records:
            async for record in records:
                yield record
