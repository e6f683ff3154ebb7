"""The upkeep commands on the terminal: what they order, print, and end with."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import asdict
from typing import TextIO

from mirror import errand, forecast
from mirror.cache.records import (
    Budgets,
    Collected,
    Order,
    Progress,
    Purged,
    Record,
    UpkeepError,
    Usage,
    Verified,
    Wrong,
)
from mirror.settings import Settings
from mirror.sizes import human

WRONG = 1  # exit code: something was wrong, and was thrown away
_BAR = 30  # characters


async def run(settings: Settings, order: Order, *, as_json: bool = False) -> int:
    """Have an order carried out and print what is told; returns the exit code.

    Raises UpkeepError, or StoreError.
    """
    bar = _Bar(sys.stderr)
    last: Record | None = None
    try:
        async with aclosing(errand.run(settings, order)) as records:
            async for record in records:
                last = record
                if isinstance(record, Progress):
                    bar.show(record)
                    continue
                bar.clear()
                for line in _json(record) if as_json else _lines(record):
                    print(line, flush=True)
    finally:
        bar.clear()
    if last is None or isinstance(last, Progress | Wrong):
        raise UpkeepError("the running mirror broke off: it was stopped, or failed")
    return WRONG if isinstance(last, Verified) and last.wrong else 0


def _json(record: Record) -> Iterator[str]:
    told = asdict(record)
    del told["kind"]
    yield json.dumps(told, indent=2)


def _lines(record: Record) -> Iterator[str]:
    if isinstance(record, Wrong):
        yield f"{record.digest}: {record.reason}"
    elif isinstance(record, Verified):
        right = f"{record.wrong} wrong and discarded" if record.wrong else "all right"
        yield f"verified {record.blobs} files, {human(record.bytes)}: {right}"
    elif isinstance(record, Collected):
        yield (
            f"freed {human(record.freed)}: {record.partials} partial downloads, "
            f"{record.strangers} files that nothing names, {record.evicted} files to keep the "
            f"bound; {record.rows} entries without their file"
        )
    elif isinstance(record, Purged):
        stay = f"; {record.shared} stay: others need them" if record.shared else ""
        yield (
            f"purged {record.target}: {record.tags} tags, {record.files} files, "
            f"{human(record.freed)}{stay}"
        )
    elif isinstance(record, Usage):
        yield from _table(record)
    elif isinstance(record, Budgets):
        yield from forecast.lines(record, time.time())


def _table(usage: Usage) -> Iterator[str]:
    """Print repositories, their images below them, then what else takes space."""
    yield f"{'SIZE':>11} {'ALONE':>11}  REPOSITORY, IMAGE"
    for repository in usage.repositories:
        sizes = f"{human(repository.bytes):>11} {human(repository.alone):>11}"
        yield f"{sizes}  {repository.repository}"
        for image in repository.images:
            yield f"{human(image.bytes):>11} {human(image.alone):>11}    {image.reference}"
    yield ""
    parts = (
        ("shared by several repositories", usage.shared),
        ("of no repository yet", usage.unclaimed),
        ("partial downloads", usage.partial),
        ("downloads that run", usage.promised),
        ("removed, still being read", usage.leaving),
        ("in quarantine", usage.quarantine),
        ("the index", usage.index),
    )
    for what, size in parts:
        if size:
            yield f"{human(size):>11}  {what}"
    yield f"{human(usage.used):>11}  in all, of {human(usage.limit)}"


class _Bar:
    """A progress bar, on a terminal only."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._wanted = terminal.isatty()
        self._shown = False
        self._began = time.monotonic()

    def show(self, progress: Progress) -> None:
        """Draw it anew."""
        if not self._wanted:
            return
        share = progress.bytes / progress.all_bytes if progress.all_bytes else 1.0
        full = round(share * _BAR)
        rate = progress.bytes / max(time.monotonic() - self._began, 0.001)
        self._terminal.write(
            f"\r\x1b[K[{'#' * full}{'.' * (_BAR - full)}] {share:4.0%}  {human(progress.bytes)} of "
            f"{human(progress.all_bytes)}, {human(rate)}/s"
        )
        self._terminal.flush()
        self._shown = True

    def clear(self) -> None:
        """Leave the line to what is printed next."""
        if self._shown:
            self._terminal.write("\r\x1b[K")
            self._terminal.flush()
            self._shown = False
