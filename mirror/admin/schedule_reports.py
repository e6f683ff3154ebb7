"""The next time of each schedule, and the result of its last run, for the status."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from mirror.settings import Schedule


class ScheduleReport(NamedTuple):
    """The report on a schedule, as `ScheduleStatus` has it."""

    name: str
    next: float | None = None
    began: float | None = None
    ended: float | None = None
    images: int = 0
    stored: int = 0
    failure: str | None = None


class ScheduleReports:
    """The reports on the schedules of a running mirror; `clock` returns epoch seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._reports: dict[Schedule, ScheduleReport] = {}

    def __repr__(self) -> str:
        return f"<ScheduleReports: {len(self._reports)} schedules>"

    @property
    def all(self) -> tuple[ScheduleReport, ...]:
        """All reports, in the order of the configuration."""
        return tuple(self._reports.values())

    def plan(self, times: Iterable[tuple[Schedule, str, float | None]]) -> None:
        """Replace the schedules, each with its name and the next time in epoch seconds.

        A schedule without a next time has None. The last runs of kept schedules stay known.
        """
        known = self._reports
        self._reports = {
            schedule: known.get(schedule, ScheduleReport(name))._replace(next=at)
            for schedule, name, at in times
        }

    def renew(self, schedule: Schedule, at: float | None) -> None:
        """Change the next time of a schedule."""
        self._change(schedule, next=at)

    def begin(self, schedule: Schedule) -> None:
        """Note that a run begins."""
        self._change(schedule, began=self._clock(), ended=None, images=0, stored=0, failure=None)

    def end(
        self, schedule: Schedule, *, images: int = 0, stored: int = 0, failure: str | None = None
    ) -> None:
        """Note that a run ends; `failure` is the reason if it stored nothing as a whole."""
        report = self._reports.get(schedule)
        if report is not None and report.began is not None:  # else a reload removed it for a while
            ended = self._clock()
            self._change(schedule, ended=ended, images=images, stored=stored, failure=failure)

    def _change(self, schedule: Schedule, **changes: Any) -> None:  # noqa: ANN401 - as the fields
        """Change a report; that of a schedule which a reload has removed is gone."""
        if (report := self._reports.get(schedule)) is not None:
            self._reports[schedule] = report._replace(**changes)
