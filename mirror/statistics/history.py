"""The history: sums of minutes, ten minutes and hours, in memory and in the index."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from mirror.statistics.series import Series, SeriesPart
from mirror.storage.errors import in_words
from mirror.storage.metadata.protocol import HistoryMetadata, MetadataError
from mirror.storage.metadata.rows import Figures, HistoryRow
from mirror.util.cooperative import cooperatively

_log = logging.getLogger(__name__)

MINUTE, TEN_MINUTES, HOUR = 60, 600, 3600  # seconds
STEPS = {MINUTE: 25 * 60, TEN_MINUTES: 8 * 144, HOUR: 400 * 24}  # seconds: rows that stay
ITSELF = ""  # the upstream of rows about the mirror itself: each step in which it ran has one
_UPSTREAMS = 16  # with their own rows; more of them count as the mirror's
_SILENT = 30 * 24 * HOUR  # seconds from an upstream's last row to the newest row of all


class History:
    """The history of all upstreams; a step in which the mirror did not run has no row.

    No row is dropped by its age, which a wrong clock would make up: each kind of step has a bound
    of rows.
    """

    def __init__(self, index: HistoryMetadata) -> None:
        self._index = index
        self._series: dict[tuple[str, int], Series] = {}
        self._all = {step: Series(most) for step, most in STEPS.items()}
        self._loaded = False

    def __repr__(self) -> str:
        return f"<History of {len(self._all[HOUR])} hours>"

    async def load(self) -> None:
        """Read the history, once. A history that cannot be read is lost, and the log says so."""
        if self._loaded:
            return
        self._loaded = True
        self._index.when_lost(self._tell)
        try:
            rows = await self._index.history()
        except MetadataError as error:
            _log.error("the history cannot be read, and begins anew: %s", in_words(error))
            return
        for row in rows:
            if row.step in STEPS:
                self._take(self._known(row.upstream), row.step, row.at, row.figures)
        if self._is_full():
            await self._give_up_oldest()

    def add(self, upstream: str, minute: int, figures: Figures) -> None:
        """Add the sums of a minute, which began at `minute` in epoch seconds."""
        upstream = self._known(upstream)
        for step in STEPS:
            at = minute // step * step
            if self._take(upstream, step, at, figures):
                sums = self._series[upstream, step].at(at)
                self._index.put_history(HistoryRow(step, at, upstream, sums))

    def _known(self, upstream: str) -> str:
        """Return the upstream, or the mirror itself for an upstream beyond the bound."""
        if (upstream, HOUR) in self._series or not self._is_full():
            return upstream
        return ITSELF

    def _is_full(self) -> bool:
        return len(self._series) >= _UPSTREAMS * len(STEPS)

    async def _give_up_oldest(self) -> None:
        """Add the upstream that is silent for longest to the mirror's: others need its place.

        Ages are from row to row, not by the clock. A silent upstream may have left the settings.
        """
        last = {
            upstream: series.last or 0
            for (upstream, step), series in self._series.items()
            if step == HOUR
        }
        oldest = min(last.keys() - {ITSELF}, key=lambda upstream: last[upstream])
        if last[oldest] > max(last.values()) - _SILENT:
            return
        _log.info("the history of %s is added to the mirror's own", oldest)
        for step in STEPS:
            series = self._series.pop((oldest, step))
            async for at in cooperatively(series.times()):
                self._merge(step, at, series.at(at))
                self._index.drop_history(step, at, oldest)

    def _merge(self, step: int, at: int, figures: Figures) -> None:
        """Add to a step of the mirror, but not to that of all upstreams, which has it.

        What would cost the mirror another step is given up.
        """
        for each, most in STEPS.items():
            self._series.setdefault((ITSELF, each), Series(most))
        series = self._series[ITSELF, step]
        if series.has_room_for(at):
            series.add(at, figures)
            self._index.put_history(HistoryRow(step, at, ITSELF, series.at(at)))

    def _take(self, upstream: str, step: int, at: int, figures: Figures) -> bool:
        """Add to a step; False if it is not kept."""
        if (upstream, step) not in self._series:
            self._series |= {(upstream, each): Series(most) for each, most in STEPS.items()}
        self._all[step].add(at, figures)
        gone = self._series[upstream, step].add(at, figures)
        if gone is not None and gone != at:
            self._index.drop_history(step, gone, upstream)
        return gone != at

    def _tell(self) -> Iterator[object]:
        """Queue all rows again, for an index that lost them."""
        for (upstream, step), series in list(self._series.items()):
            for at in series.times():
                self._index.put_history(HistoryRow(step, at, upstream, series.at(at)))
                yield at

    def part(self, upstream: str | None, step: int, begin: int, end: int) -> SeriesPart:
        """Return the steps of an upstream, or of all together, as a copy."""
        series = self._all[step] if upstream is None else self._series.get((upstream, step))
        return (series or Series(0)).part(begin, end)

    def total(self, upstream: str | None, step: int, begin: int, end: int) -> Figures:
        """Return the sums of the steps that begin from `begin` on and before `end`."""
        part = self.part(upstream, step, begin, end)
        return part.total()
