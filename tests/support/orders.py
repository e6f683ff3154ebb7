"""Orders as a command gives them, while the mirror runs in the test's own process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from mirror.admin import client
from mirror.admin.messages import Record, Work
from mirror.settings import load


async def ordered(folder: Path, order: Work) -> AsyncGenerator[Record, None]:
    """Have an order carried out for a data folder; yields its records.

    It has a thread, as a command has a process: the mirror needs those of the loop meanwhile.
    """
    loop, thread = asyncio.get_running_loop(), ThreadPoolExecutor(1)
    try:
        with closing(client.run(load({"data_dir": folder}), order)) as records:
            while (record := await loop.run_in_executor(thread, next, records, None)) is not None:
                yield record
    finally:
        thread.shutdown(wait=False)
