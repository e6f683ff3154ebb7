"""Orders as a command gives them, while the mirror runs in the test's own process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import closing
from pathlib import Path

from mirror.admin import client
from mirror.admin.messages import Record, Work
from mirror.settings import load


async def ordered(folder: Path, order: Work) -> AsyncGenerator[Record, None]:
    """Have an order carried out for a data folder, on a thread; yields its records."""
    with closing(client.run(load({"data_dir": folder}), order)) as records:
        while (record := await asyncio.to_thread(next, records, None)) is not None:
            yield record
