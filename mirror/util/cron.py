"""Times in the five fields of cron, by the local clock: minute, hour, day, month, weekday."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import chain, takewhile

_CHANGE = timedelta(hours=2)  # the largest change of a local clock in a year
_DAYS = 9 * 366  # days looked ahead: 29 February may be eight years away
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_PART = re.compile(r"(\*|[a-z0-9]+)(?:-([a-z0-9]+))?(?:/([0-9]+))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Field:
    """One of the fields, with its lowest and highest number; `names` are of its numbers."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    def parse(self, text: str) -> frozenset[int]:
        """Return the numbers that a field means; raises ValueError."""
        found: set[int] = set()
        for part in text.lower().split(","):
            match = _PART.fullmatch(part)
            if match is None:
                raise self._wrong(text)
            found.update(self._range(text, *match.groups()))
        return frozenset(found)

    def _range(self, text: str, first: str, last: str | None, step: str | None) -> range:
        if first == "*":
            low, high = self.low, self.high
        else:
            low = self._number(text, first)
            high = self._number(text, last) if last else self.high if step else low
        if low > high or (first == "*" and last) or step == "0" or len(step or "") > 3:
            raise self._wrong(text)
        return range(low, high + 1, int(step or 1))

    def _number(self, text: str, word: str) -> int:
        if word in self.names:
            return self.low + self.names.index(word)
        if not word.isdigit() or len(word) > 3 or not self.low <= int(word) <= self.high:
            raise self._wrong(text)
        return int(word)

    def _wrong(self, text: str) -> ValueError:
        names = f" or {self.names[0]}-{self.names[-1]}" if self.names else ""
        return ValueError(
            f"{self.name} {text[:40]!r}: expected numbers {self.low}-{self.high}{names}, as *, a "
            "list (1,2), a range (1-5), or a step (*/15)"
        )


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("weekday", 0, 7, _WEEKDAYS),  # 7 is Sunday, too
)


@dataclass(frozen=True, slots=True)
class Cron:
    """The times of a schedule. If day and weekday are both bounded, either is enough, as in cron.

    When clocks go forward, a time that is left out comes later by the change: 2:30 at 3:30. When
    they go back, a time that comes twice counts once, unless the schedule is for every hour.
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool

    def following(self, after: float) -> float | None:
        """Return the first time after another, in epoch seconds; None if there is none."""
        begin = datetime.fromtimestamp(after) - _CHANGE  # noqa: DTZ006 - local
        hours = self._hours_from(begin.replace(minute=0, second=0, microsecond=0))
        for hour in hours:
            if later := self._times(hour, after):
                # Times that a change moves are not in the order of their hours.
                near = takewhile(lambda other: other <= hour + _CHANGE, hours)  # noqa: B023
                return min(chain(later, *(self._times(other, after) for other in near)))
        return None

    def _hours_from(self, begin: datetime) -> Iterator[datetime]:
        for number in range(_DAYS):
            day = begin.date() + timedelta(number)
            for hour in self.hours if self._has(day) else ():
                at = datetime(day.year, day.month, day.day, hour)  # noqa: DTZ001 - local
                if at >= begin:
                    yield at

    def _has(self, day: date) -> bool:
        of_month, of_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        fits = (of_month or of_week) if self.either else (of_month and of_week)
        return day.month in self.months and fits

    def _times(self, hour: datetime, after: float) -> list[float]:
        """Return the times of an hour that are after another, in epoch seconds."""
        folds = (0, 1) if len(self.hours) == 24 else (0,)
        times = (
            hour.replace(minute=minute, fold=fold).timestamp()
            for minute in self.minutes
            for fold in folds
        )
        return [at for at in times if at > after]


def parse_cron(text: str) -> Cron:
    """Parse `0 5 * * 1-5`; raises ValueError, which names the field and the allowed values."""
    words = text.split()
    if len(words) != len(_FIELDS):
        names = ", ".join(field.name for field in _FIELDS)
        raise ValueError(f'expected five fields, such as "0 5 * * 1-5": {names}')
    parsed = [field.parse(word) for field, word in zip(_FIELDS, words, strict=True)]
    minutes, hours, days, months, weekdays = parsed
    cron = Cron(
        tuple(sorted(minutes)),
        tuple(sorted(hours)),
        days,
        months,
        frozenset(number % 7 for number in weekdays),
        either=not words[2].startswith("*") and not words[4].startswith("*"),
    )
    if cron.following(0.0) is None:
        raise ValueError("expected a day that some month has")
    return cron
