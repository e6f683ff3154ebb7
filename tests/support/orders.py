"""Orders as a command gives them, while the mirror runs in the test's own process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from mirror.admin import client
from mirror.admin.messages import Record, Work
from mirror.settings import load


async def ordered(folder: Path, order: Work) -> AsyncIterator[Record]:
    """Have an order carried out for a data folder, on a thread; yields its records."""
    records = client.run(load({"data_dir": folder}), order)
    while (record := await asyncio.to_thread(next, records, None)) is not None:
        yield record
