"""Schedules: images are warmed at their times, one schedule after the other."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import aclosing, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from mirror.admin.messages import ImageFor, Record, Refused, Warmed, WarmOrder
from mirror.admin.messages.warm import MOST_IMAGES
from mirror.admin.service import AdminService
from mirror.oci.errors import shown
from mirror.settings import Schedule
from mirror.util.cron import parse_cron
from mirror.util.detached import DetachedThreads
from mirror.util.units import duration, human

_log = logging.getLogger(__name__)

_LATE = 90.0  # seconds; a time that passed earlier, while the machine slept say, is not made up for
_BACK = 60.0  # seconds; a clock that is set back by more was wrong, and so are the next times
_PATIENCE = 30.0  # seconds for reading files: they may be on a server that is gone
_THREADS = 4  # for reading files; those for files of a server that is gone may never end
_TOLD = 20  # failed images in the log


@dataclass(frozen=True, slots=True)
class _Due:
    """A schedule's next `time`, and that time with its delay: `at`, in epoch seconds."""

    schedule: Schedule
    time: float
    at: float

    def is_pending(self, now: float) -> bool:
        """Whether the time has come, and the schedule waits for its delay, or for another one."""
        return self.time <= now

    def likeness(self, other: Schedule) -> int:
        """Return the number of images and files that are another schedule's, too."""
        mine = self.schedule
        return len({*mine.images, *mine.files} & {*other.images, *other.files})

    def passed_to(self, heir: Schedule, now: float) -> _Due:
        """Return the place as that of another schedule; its `jitter` may be shorter."""
        return _Due(heir, self.time, min(self.at, max(now, self.time + heir.jitter)))


class Scheduler:
    """Runs schedules by the wall `clock`; `look_every` is the longest time between looks at it.

    A clock that is set is noticed by that. `delay` draws a delay from 0 to a `jitter`, in seconds.
    """

    def __init__(
        self,
        service: AdminService,
        schedules: Sequence[Schedule],
        clock: Callable[[], float],
        look_every: float = 15.0,
        delay: Callable[[float], float] = lambda jitter: random.uniform(0, jitter),  # noqa: S311
    ) -> None:
        self._service = service
        self._clock = clock
        self._look_every = look_every
        self._delay = delay
        self._threads = DetachedThreads(_THREADS, "schedules")
        self._hung: dict[tuple[Path, ...], Future[list[str | ImageFor]]] = {}
        self._changed = asyncio.Event()
        self._free_since = self._seen = clock()
        self._due: list[_Due] = []
        self.change(schedules)

    def __repr__(self) -> str:
        return f"<Scheduler: {len(self._due)} schedules>"

    def change(self, schedules: Sequence[Schedule]) -> None:
        """Take up other schedules; a running one goes on to its end.

        A schedule that was edited while it waited for its delay, at the same times, waits on.
        """
        now, known = self._clock(), {due.schedule: due for due in self._due}
        known |= self._heirs([each for each in schedules if each not in known], schedules, now)
        self._due = [known.get(each) or self._following(each, now) for each in schedules]
        self._changed.set()

    def _heirs(
        self, fresh: list[Schedule], kept: Sequence[Schedule], now: float
    ) -> dict[Schedule, _Due]:
        """Give the place of each schedule that waited, and is gone, to the new one most like it."""
        heirs: dict[Schedule, _Due] = {}
        for due in self._due:
            alike = [each for each in fresh if each.when == due.schedule.when]
            if alike and due.is_pending(now) and due.schedule not in kept:
                heir = max(alike, key=due.likeness)
                fresh.remove(heir)
                heirs[heir] = due.passed_to(heir, now)
        return heirs

    def wake(self) -> None:
        """Look at the clock at once: it was set."""
        self._changed.set()

    async def run(self) -> None:
        """Run each schedule at its times, for ever."""
        try:
            while True:
                if (schedule := self._next(self._look())) is not None:
                    await self._carry_out(schedule)
                    self._free_since = self._clock()
                    self._skip(schedule, self._free_since)
                else:
                    await self._pause()
        finally:
            self._threads.close()

    async def _pause(self) -> None:
        self._changed.clear()
        soonest = min((due.at for due in self._due), default=float("inf"))
        wait = min(self._look_every, max(0.0, soonest - self._clock())) if self._due else None
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._changed.wait()

    def _look(self) -> float:
        """Return the time; if the clock was set back, times that are ahead are found anew."""
        now, seen = self._clock(), self._seen
        self._seen = now
        if now < seen - _BACK:
            _log.warning("the clock was set back: all schedules find their next time anew")
            self._due = [
                due if due.is_pending(now) else self._following(due.schedule, now)
                for due in self._due
            ]
            self._free_since = min(self._free_since, now)
        return now

    def _next(self, now: float) -> Schedule | None:
        """Return the schedule that is due first, and find its next time; None if none is due.

        A time that passed while another schedule ran comes late. Any other is missed.
        """
        while self._due:
            due = min(self._due, key=lambda each: each.at)
            if due.at > now:
                return None
            again = self._following(due.schedule, now)
            self._due = [again if each is due else each for each in self._due]
            if now - max(due.at, self._free_since) <= _LATE:
                return due.schedule
            _log.warning("schedule %s: a time was missed", name_of(due.schedule))
        return None

    def _skip(self, schedule: Schedule, now: float) -> None:
        """Leave out a time of a schedule that came during its run."""
        for due in self._due:
            if due.schedule == schedule and due.at <= now:
                again = self._following(schedule, now)
                self._due = [again if each is due else each for each in self._due]
                words = "schedule %s: a time came while its run went on, and is skipped"
                _log.warning(words, name_of(schedule))

    def _following(self, schedule: Schedule, now: float) -> _Due:
        at = parse_cron(schedule.when).following(now)
        if at is None:
            return _Due(schedule, math.inf, math.inf)
        return _Due(schedule, at, at + self._delay(schedule.jitter))

    async def _carry_out(self, schedule: Schedule) -> None:
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
        except Exception:  # noqa: BLE001 - logged: the next time may succeed
            _log.exception("unexpected failure of schedule %s", name)
        else:
            _tell(name, last)

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


def name_of(schedule: Schedule) -> str:
    """Return the name of a schedule for the log: its times, and the first of its images."""
    first = [*schedule.images, *map(str, schedule.files)][0]
    more = len(schedule.images) + len(schedule.files) - 1
    return f'"{schedule.when}" of {shown(first)}' + (f" and {more} more" if more else "")


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
