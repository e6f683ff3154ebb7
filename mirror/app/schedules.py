"""Schedules: images are warmed at their times, one schedule after the other."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mirror.admin.schedule_reports import ScheduleReports
from mirror.oci.errors import shown
from mirror.settings import Schedule
from mirror.util.cron import parse_cron
from mirror.util.deferred import Deferred

if TYPE_CHECKING:
    from mirror.app.scheduled_runs import ScheduledRuns

_log = logging.getLogger(__name__)

_LATE = 90.0  # seconds; a time that passed earlier, while the machine slept say, is not made up for
_BACK = 60.0  # seconds; a clock that is set back by more was wrong, and so are the next times


@dataclass(frozen=True, slots=True)
class _Due:
    """A schedule's next `time`, and that time with its delay: `at`, in epoch seconds."""

    schedule: Schedule
    time: float
    at: float

    def is_pending(self, now: float) -> bool:
        """Whether the time has come, and the schedule waits for its delay, or for another one."""
        return self.time <= now

    @property
    def reported(self) -> float | None:
        """The time with its delay; None if no time will come."""
        return self.at if math.isfinite(self.at) else None

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
    The next times go to `reports`.
    """

    def __init__(
        self,
        runs: Deferred[ScheduledRuns],
        schedules: Sequence[Schedule],
        reports: ScheduleReports,
        clock: Callable[[], float],
        look_every: float = 15.0,
        delay: Callable[[float], float] = lambda jitter: random.uniform(0, jitter),  # noqa: S311
    ) -> None:
        self._runs = runs
        self._reports = reports
        self._clock = clock
        self._look_every = look_every
        self._delay = delay
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
        self._plan([known.get(each) or self._following(each, now) for each in schedules])
        self._changed.set()

    def _plan(self, due: list[_Due]) -> None:
        """Set the next time of each schedule, and report it."""
        self._due = due
        self._reports.plan((each.schedule, name_of(each.schedule), each.reported) for each in due)

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
            if self._runs.made is not None:
                self._runs.made.close()

    async def _carry_out(self, schedule: Schedule) -> None:
        """Run a schedule; the first run loads the modules of runs."""
        self._reports.begin(schedule)
        try:
            runs = await self._runs.get()
        except Exception:  # noqa: BLE001 - logged: the next time may succeed
            _log.exception("schedule %s cannot be run", name_of(schedule))
            self._reports.end(schedule, failure="it cannot be run: the log has the reason")
        else:
            await runs.carry_out(schedule)

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
            self._plan(
                [
                    due if due.is_pending(now) else self._following(due.schedule, now)
                    for due in self._due
                ]
            )
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
            self._renew(due, now)
            if now - max(due.at, self._free_since) <= _LATE:
                return due.schedule
            _log.warning("schedule %s: a time was missed", name_of(due.schedule))
        return None

    def _skip(self, schedule: Schedule, now: float) -> None:
        """Leave out a time of a schedule that came during its run."""
        for due in self._due:
            if due.schedule == schedule and due.at <= now:
                self._renew(due, now)
                words = "schedule %s: a time came while its run went on, and is skipped"
                _log.warning(words, name_of(schedule))

    def _renew(self, due: _Due, now: float) -> None:
        """Find the next time of a schedule that is due."""
        again = self._following(due.schedule, now)
        self._due = [again if each is due else each for each in self._due]
        self._reports.renew(again.schedule, again.reported)

    def _following(self, schedule: Schedule, now: float) -> _Due:
        at = parse_cron(schedule.when).following(now)
        if at is None:
            return _Due(schedule, math.inf, math.inf)
        return _Due(schedule, at, at + self._delay(schedule.jitter))


def name_of(schedule: Schedule) -> str:
    """Return the name of a schedule for the log: its times, and the first of its images."""
    first = [*schedule.images, *map(str, schedule.files)][0]
    more = len(schedule.images) + len(schedule.files) - 1
    return f'"{schedule.when}" of {shown(first)}' + (f" and {more} more" if more else "")
