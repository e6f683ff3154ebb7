"""Errands: an order is brought to the daemon that uses the data folder, or carried out here."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import aiohttp

from mirror.cache.budget import Budget
from mirror.cache.ledger import Ledger
from mirror.cache.lines import order_line, read_record
from mirror.cache.memory import Memory
from mirror.cache.records import Order, Record, Refused, UpkeepError
from mirror.cache.tags import Tags
from mirror.cache.tally import Tally
from mirror.cache.upkeep import Upkeep
from mirror.settings import Settings
from mirror.store.files import Files
from mirror.store.recovery import open_store
from mirror.web.control import SOCKET, short_path

_CONNECT = 10.0  # seconds


async def run(settings: Settings, order: Order) -> AsyncGenerator[Record, None]:
    """Have an order carried out; raises UpkeepError, or StoreError for the data folder."""
    folder = settings.data_dir.absolute()
    if not _is_data(folder):
        raise UpkeepError(f"no mirror keeps its data in {folder}")
    try:
        async with aclosing(_by_daemon(folder, order)) as records:
            async for record in records:
                yield _good(record)
    except _NobodyThere:
        async with aclosing(_here(settings, folder, order)) as records:
            async for record in records:
                yield _good(record)


class _NobodyThere(Exception):
    """No daemon listens."""


def _is_data(folder: Path) -> bool:
    """Whether a mirror made this folder: a mistyped one must not become one."""
    try:
        return (folder / "blobs").is_dir()
    except OSError as error:
        raise UpkeepError(f"cannot look into {folder}: {error.strerror}") from None


def _good(record: Record) -> Record:
    if isinstance(record, Refused):
        raise UpkeepError(record.reason)
    return record


async def _by_daemon(folder: Path, order: Order) -> AsyncGenerator[Record, None]:
    """Ask the daemon; raises _NobodyThere where none listens, UpkeepError where it fails."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT)
    with short_path(folder) as path:
        connector = aiohttp.UnixConnector(path)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.post("http://mirror/orders", data=order_line(order)) as response,
                aclosing(_lines(response)) as lines,
            ):
                async for line in lines:
                    yield read_record(line)
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, FileNotFoundError | ConnectionRefusedError):
                raise _NobodyThere from None
            raise UpkeepError(
                f"cannot talk to the mirror on {folder / SOCKET}: {error.os_error.strerror}"
            ) from None
        except (aiohttp.ClientError, TimeoutError):
            raise UpkeepError("the running mirror broke off: it was stopped, or failed") from None


async def _lines(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    """Split a body, whose lines may be of any length."""
    if response.status != 200:
        raise UpkeepError(f"the running mirror answers {response.status}: restart it")
    rest = b""
    async for data in response.content.iter_any():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line


async def _here(settings: Settings, folder: Path, order: Order) -> AsyncGenerator[Record, None]:
    """Open the data folder and carry the order out in this process."""
    # Opened without a bound: to look at what is kept must not evict any of it.
    store = await open_store(Files(folder), sys.maxsize)
    try:
        store.books.limit = settings.max_size
        tags = Tags(store.index, settings.tag_ttl, settings.missing_ttl)
        await tags.load()
        ledger = Ledger(store.index, settings.ledger_keep)
        budget, tally = Budget(ledger, settings.budgets()), Tally(ledger)
        await budget.load()
        await tally.load(budget.longest)
        memory = Memory(settings.memory_cache)
        upkeep = Upkeep(store, tags, memory, budget, tally, tuple(store.altered))
        async with aclosing(upkeep.carry_out(order)) as records:
            async for record in records:
                yield record
    finally:
        await store.close()
