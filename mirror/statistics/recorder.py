"""The recorder: counts requests and upstream's answers, and hands each minute to the history."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median

from mirror.statistics.counts import Counts
from mirror.statistics.durations import Recent
from mirror.statistics.history import HOUR, ITSELF, MINUTE, TEN_MINUTES, History
from mirror.statistics.recent import RecentRequests
from mirror.statistics.series import added
from mirror.statistics.top import TopLists
from mirror.storage.metadata.rows import Figures
from mirror.upstream.client import RegistryClient
from mirror.upstream.telemetry import UpstreamResponse

_LEAST = 256 * 1024  # bytes of a fetch that says something about upstream's rate
_SAMPLES = HOUR // MINUTE + 1


@dataclass(frozen=True, slots=True)
class Readings:
    """Figures of other parts, which grow from the start on and are read once a second.

    `asked` has the pulls that clients made, by upstream. `totals` are counts of events that need
    attention, under names of the recorder's user.
    """

    registries: Mapping[str, RegistryClient]
    asked: Mapping[str, int]
    evicted: Callable[[], int]
    totals: Mapping[str, Callable[[], int]] = field(default_factory=dict)


@dataclass(slots=True)
class _Measured:
    """Measurements of an upstream, and the last readings of its counters."""

    counts: Counts = field(default_factory=Counts)
    manifests: Recent = field(default_factory=Recent)  # seconds until an answer's headers
    blobs: Recent = field(default_factory=Recent)
    rates: Recent = field(default_factory=Recent)  # bytes a second
    asked: int = 0
    received: int = 0
    spared: float = 0.0  # seconds, in the minutes that are over
    down_since: float | None = None
    changed: bool = False

    def estimate(self) -> None:
        """Reckon anew how long upstream takes; without a measurement, no time."""
        manifest, blob, rate = (
            self.manifests.median(),
            self.blobs.median(),
            self.rates.median(),
        )
        self.counts.manifest_wait = manifest or 0.0
        self.counts.blob_wait = blob if blob is not None else manifest or 0.0
        self.counts.per_byte = 1 / rate if rate else 0.0
        self.changed = False


class Recorder:
    """The statistics of a running mirror. `wall` is the time of the history, `timer` monotonic."""

    def __init__(
        self,
        history: History,
        top: TopLists,
        wall: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.history = history
        self.top = top
        self.recent = RecentRequests()
        self.started = wall()
        self._wall = wall
        self._timer = timer
        self._began = self._ticked = timer()
        self._minute = int(self.started) // MINUTE * MINUTE
        self._upstreams: dict[str, _Measured] = {}
        self._counts: dict[str, Counts] = {}
        self._itself = self._of(ITSELF)
        self._readings: Readings | None = None
        self._evicted = 0
        self._samples: deque[dict[str, int]] = deque(maxlen=_SAMPLES)

    def __repr__(self) -> str:
        return f"<Recorder of {len(self._upstreams) - 1} upstreams>"

    async def load(self) -> None:
        """Read the past."""
        await self.history.load()
        await self.top.load()

    def read(self, readings: Readings) -> None:
        """Have the figures of other parts read from now on."""
        self._readings = readings
        self._evicted = readings.evicted()
        self._sample()

    async def run(self) -> None:
        """Read and record once a second, for ever."""
        while True:
            await asyncio.sleep(1)
            self.tick()

    # Events

    def counts(self, upstream: str) -> Counts:
        """Return the counts of an upstream, to add a request to."""
        return self._counts.get(upstream) or self._of(upstream).counts

    def answer(self, answer: UpstreamResponse) -> None:
        """Count an answer of upstream, or a missing one."""
        measured = self._of(answer.upstream)
        counts = measured.counts
        counts.upstream_requests += 1
        failed = answer.status is None or answer.status >= 500
        counts.upstream_failures += failed
        counts.counted += answer.counted
        if failed or answer.kind == "token":
            return
        times = measured.blobs if answer.kind == "blob" else measured.manifests
        times.add(self._timer(), answer.seconds)
        measured.changed = True

    def fetched(self, upstream: str, received: int, seconds: float) -> None:
        """Note how fast the body of a fetch came, in bytes and seconds."""
        if received >= _LEAST and seconds > 0:
            measured = self._of(upstream)
            measured.rates.add(self._timer(), received / seconds)
            measured.changed = True

    def _of(self, upstream: str) -> _Measured:
        measured = self._upstreams.get(upstream)
        if measured is None:
            measured = self._upstreams[upstream] = _Measured()
            self._counts[upstream] = measured.counts
        return measured

    # Time

    def tick(self) -> None:
        """Read the figures of other parts, and record a minute that is over."""
        now = self._timer()
        self._itself.counts.ran += min(now - self._ticked, MINUTE)
        self._ticked = now
        self._read(now)
        for measured in self._upstreams.values():
            if measured.changed:
                measured.estimate()
        minute = int(self._wall()) // MINUTE * MINUTE
        if minute != self._minute:
            self._record()
            self._sample()
            if minute // HOUR != self._minute // HOUR:
                self.top.close_hour(self._minute // HOUR * HOUR)
            elif minute // TEN_MINUTES != self._minute // TEN_MINUTES:
                self.top.save(minute // HOUR * HOUR)
            self._minute = minute

    def refresh(self) -> None:
        """Read the figures of other parts now; without a running mirror there are none."""
        if self._readings is not None:
            self.tick()

    def stop(self) -> None:
        """Record the time since the last tick, at the end."""
        self.tick()
        self._record()
        self.top.close_hour(self._minute // HOUR * HOUR)

    def _read(self, now: float) -> None:
        readings = self._readings
        if readings is None:
            return
        evicted = readings.evicted()
        self._itself.counts.evicted += max(0, evicted - self._evicted)
        self._evicted = evicted
        for name, registry in readings.registries.items():
            measured = self._of(name)
            asked, received = readings.asked.get(name, 0), registry.received
            measured.counts.asked += max(0, asked - measured.asked)
            measured.counts.received += max(0, received - measured.received)
            measured.asked, measured.received = asked, received
            if not registry.down:
                measured.down_since = None
            elif measured.down_since is None:
                measured.down_since = now

    def _record(self) -> None:
        for upstream, measured in self._upstreams.items():
            measured.spared += measured.counts.spared
            figures = measured.counts.take()
            if upstream == ITSELF or any(figures):
                self.history.add(upstream, self._minute, figures)

    def _sample(self) -> None:
        totals = self._readings.totals if self._readings is not None else {}
        self._samples.append({name: read() for name, read in totals.items()})

    # Figures

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return self._timer() - self._began

    @property
    def now(self) -> float:
        """The time, in epoch seconds."""
        return self._wall()

    def current(self, upstream: str | None) -> tuple[int, Figures]:
        """Return the current minute's begin and its sums so far: of one upstream, or of all."""
        chosen = [upstream] if upstream is not None else list(self._upstreams)
        sums = Counts().figures()
        for name in chosen:
            if name in self._upstreams:
                sums = added(sums, self._upstreams[name].counts.figures())
        return self._minute, sums

    def spared(self) -> Iterator[tuple[str, float]]:
        """Yield the seconds that each upstream's hits have spared since the start."""
        for name, measured in self._upstreams.items():
            if name != ITSELF:
                yield name, measured.spared + measured.counts.spared

    def median(self, upstream: str, seconds: float) -> float | None:
        """Return the median time until the headers of upstream's answers, of the last `seconds`."""
        measured, since = self._of(upstream), self._timer() - seconds
        times = measured.manifests.since(since) + measured.blobs.since(since)
        return median(times) if times else None

    def down_for(self, upstream: str) -> float | None:
        """Return for how many seconds upstream has been down; None if it is not."""
        since = self._of(upstream).down_since
        return None if since is None else self._timer() - since

    def increase(self, name: str) -> int:
        """Return how many events of this name there were in the last hour."""
        readings = self._readings
        if readings is None or name not in readings.totals:
            return 0
        return readings.totals[name]() - self._samples[0].get(name, 0)
