"""A series: the sums of steps of one length, sorted by time, in arrays and bounded."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from operator import add

from mirror.storage.metadata.rows import Figures

_WIDTH = len(Figures._fields)
_DOUBTED = 60  # steps
_MOST = 2**63 - 1  # of a number in the database and in an array
NOTHING = Figures(*[0] * _WIDTH)


def added(one: Figures, other: Figures) -> Figures:
    """Return the sums of two steps."""
    return Figures._make(map(add, one, other))


def _numbers(figures: Figures) -> array[int]:
    """Return sums as the database and an array hold them; larger ones stop at the largest."""
    try:
        return array("q", figures)
    except OverflowError:
        return array("q", (min(number, _MOST) for number in figures))


class Series:
    """The recorded steps; a step without a row is a gap. The latest `most` stay, by their times.

    Times are epoch seconds of steps' begins. The clock may be wrong. A step older than all others
    of a full series is not kept: the clock is behind, as in 1970 at a boot. Only when that goes on
    for `_DOUBTED` steps, the others are rows of the future, and these are the first to leave.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._times = array("q")
        self._sums = array("q")
        self._doubted: set[int] = set()

    def __len__(self) -> int:
        return len(self._times)

    def __repr__(self) -> str:
        return f"<Series of {len(self)} steps>"

    def times(self) -> list[int]:
        """Return the begins of all steps."""
        return list(self._times)

    @property
    def first(self) -> int | None:
        """The begin of the earliest step."""
        return self._times[0] if self._times else None

    @property
    def last(self) -> int | None:
        """The begin of the latest step."""
        return self._times[-1] if self._times else None

    def at(self, time: int) -> Figures:
        """Return the sums of a step."""
        place = bisect_left(self._times, time)
        if place == len(self) or self._times[place] != time:
            return NOTHING
        return self._row(place)

    def has_room_for(self, time: int) -> bool:
        """Whether a step can be added to, and none leaves for it."""
        place = bisect_left(self._times, time)
        return len(self) < self._most or (place < len(self) and self._times[place] == time)

    def add(self, time: int, figures: Figures) -> int | None:
        """Add to a step; returns the begin of a step that leaves for it, perhaps its own."""
        last = self._times[-1] if self._times else time - 1
        place = len(self) if time > last else bisect_left(self._times, time)
        begin = place * _WIDTH
        if place < len(self) and self._times[place] == time:
            sums = added(self._row(place), figures)
            self._sums[begin : begin + _WIDTH] = _numbers(sums)
            return None
        self._times.insert(place, time)
        self._sums[begin:begin] = _numbers(figures)
        if len(self) <= self._most:
            return None
        return self._drop(self._leaving(place, time))

    def _leaving(self, place: int, time: int) -> int:
        """Return the place of the step that leaves for a new one."""
        newest = len(self) - 1
        if place == 0 and place != newest:
            self._doubted.add(time)
            if len(self._doubted) <= _DOUBTED:
                return place
        self._doubted.clear()
        return 0 if place == newest else newest

    def _drop(self, place: int) -> int:
        begin = place * _WIDTH
        del self._sums[begin : begin + _WIDTH]
        return self._times.pop(place)

    def part(self, begin: int, end: int) -> SeriesPart:
        """Return a copy of the steps that begin from `begin` on and before `end`."""
        first, stop = bisect_left(self._times, begin), bisect_left(self._times, end)
        return SeriesPart(self._times[first:stop], self._sums[first * _WIDTH : stop * _WIDTH])

    def _row(self, place: int) -> Figures:
        begin = place * _WIDTH
        return Figures(*self._sums[begin : begin + _WIDTH])


class SeriesPart:
    """A copy of some steps."""

    def __init__(self, times: array[int], sums: array[int]) -> None:
        self._times = times
        self._sums = sums

    def total(self) -> Figures:
        """Return the sums of all steps together."""
        columns = (sum(self._sums[number::_WIDTH]) for number in range(_WIDTH))
        return Figures(*(min(column, _MOST) for column in columns))

    def by(self, step: int) -> Iterator[tuple[int, Figures]]:
        """Yield the sums of longer steps, the oldest first."""
        begun, place = 0, 0
        while begun < len(self._times):
            time = self._times[begun] // step * step
            place = bisect_left(self._times, time + step, begun)
            yield time, SeriesPart(self._times, self._sums[begun * _WIDTH : place * _WIDTH]).total()
            begun = place
