"""Runs of schedules: the images of a schedule are found, and warmed by an order."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import aclosing
from importlib import import_module
from pathlib import Path

from mirror.admin.messages import ImageFor, Record, Refused, Warmed, WarmOrder
from mirror.admin.messages.warm import MOST_IMAGES
from mirror.admin.schedule_reports import ScheduleReports
from mirror.admin.service import AdminService
from mirror.app.schedules import name_of
from mirror.settings import Schedule
from mirror.util.detached import DetachedThreads
from mirror.util.units import duration, human

_log = logging.getLogger(__name__)

_PATIENCE = 30.0  # seconds for reading files: they may be on a server that is gone
_THREADS = 4  # for reading files; those for files of a server that is gone may never end
_TOLD = 20  # failed images in the log
_UNEXPECTED = "an unexpected failure, which the log shows"


class ScheduledRuns:
    """Carries out schedules by the admin service, one at a time, and reports each run."""

    def __init__(self, service: AdminService, reports: ScheduleReports) -> None:
        self._service = service
        self._reports = reports
        self._threads = DetachedThreads(_THREADS, "schedules")
        self._hung: dict[tuple[Path, ...], Future[list[str | ImageFor]]] = {}

    def __repr__(self) -> str:
        return f"<ScheduledRuns: {len(self._hung)} unread files>"

    def close(self) -> None:
        """Read no more files."""
        self._threads.close()

    async def carry_out(self, schedule: Schedule) -> None:
        """Warm the images of a schedule; the result is logged and reported, as is a failure.

        `ScheduleReports.begin` was called before.
        """
        name = name_of(schedule)
        try:
            images = await self._images(schedule)
            _log.info("schedule %s: begins, %d images", name, len(images))
            order = WarmOrder(images=images, platforms=schedule.platforms, leave=schedule.leave)
            last: Record | None = None
            async with aclosing(self._service.carry_out(order)) as records:
                async for record in records:
                    last = record
        except ValueError as error:
            _log.error("schedule %s: %s", name, error)
            self._reports.end(schedule, failure=str(error))
        except Exception:  # noqa: BLE001 - logged: the next time may succeed
            _log.exception("unexpected failure of schedule %s", name)
            self._reports.end(schedule, failure=_UNEXPECTED)
        else:
            _tell(name, last)
            self._report(schedule, last)

    def _report(self, schedule: Schedule, last: Record | None) -> None:
        """Report the end of a run by the last record of its order."""
        if isinstance(last, Warmed):
            stored = len(last.images) - last.failed
            self._reports.end(schedule, images=len(last.images), stored=stored)
        else:
            refused = last.reason if isinstance(last, Refused) else _UNEXPECTED
            self._reports.end(schedule, failure=refused)

    async def _images(self, schedule: Schedule) -> tuple[str | ImageFor, ...]:
        """Return the images of a schedule, those of files included; raises ValueError."""
        found: dict[str | ImageFor, None] = dict.fromkeys(schedule.images)
        if schedule.files:
            for each in await self._read(schedule.files):
                found[each] = None
        if not 0 < len(found) <= MOST_IMAGES:
            raise ValueError(f"{len(found)} images: expected 1 to {MOST_IMAGES}")
        return tuple(found)

    async def _read(self, files: tuple[Path, ...]) -> list[str | ImageFor]:
        """Read files on a thread; raises ValueError."""
        self._hung = {hung: reading for hung, reading in self._hung.items() if not reading.done()}
        if files in self._hung:
            raise ValueError("its files could not be read before, and the mirror still waits")
        reading = self._threads.submit(lambda: [*images_of(files)])
        try:
            async with asyncio.timeout(_PATIENCE):
                return await asyncio.wrap_future(reading)
        except TimeoutError:
            self._hung[files] = reading
            raise ValueError(f"its files could not be read within {_PATIENCE:g} s") from None


def images_of(files: Sequence[Path]) -> Iterator[str | ImageFor]:
    """Yield the images that files name; skipped texts are logged. Raises ValueError.

    YAML's parser is loaded by a mirror with such schedules only.
    """
    reader = import_module("mirror.image_lists.files")
    for file in files:
        try:
            found = reader.read_file(file, os.environ)
        except import_module("mirror.image_lists.found").UnreadableList as error:
            raise ValueError(f"{file} {error}") from None
        for skipped in found.skipped:
            _log.warning("%s:%d: %s", file, skipped.line, skipped.reason)
        for each in found:
            yield ImageFor(str(each.name), each.platform) if each.platform else str(each.name)


def _tell(name: str, last: Record | None) -> None:
    """Log the end of a run, and the images that failed."""
    if isinstance(last, Refused):
        _log.error("schedule %s: %s", name, last.reason)
    if not isinstance(last, Warmed):
        return
    failed = [each for each in last.images if each.failure is not None]
    level = logging.WARNING if failed else logging.INFO
    words = "schedule %s: ends, %d of %d images are stored: %d pulls and %s in %s"
    stored, cost = len(last.images) - len(failed), human(last.bytes)
    took = duration(last.seconds)
    _log.log(level, words, name, stored, len(last.images), last.pulls, cost, took)
    for left in last.pulls_left:
        kept = "" if last.leave is None else f"; {last.leave} are to be left"
        _log.info("schedule %s: %s has %d pulls left%s", name, left.upstream, left.pulls, kept)
    for each in failed[:_TOLD]:
        _log.warning("schedule %s: %s failed: %s", name, each.image, each.failure)
    if len(failed) > _TOLD:
        _log.warning("schedule %s: %d more failed", name, len(failed) - _TOLD)
