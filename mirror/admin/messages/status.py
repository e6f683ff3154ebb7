"""`status`: the order and its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic.dataclasses import dataclass as checked

from mirror.admin.messages.common import STRICT


@checked(frozen=True, config=STRICT)
class StatusOrder:
    """Report the state of the mirror."""

    kind: Literal["status"] = "status"

    def __str__(self) -> str:
        """Return the order as the operator types it."""
        return self.kind


@dataclass(frozen=True, slots=True)
class Concern:
    """Something that needs attention: `what` it is, in a sentence, and `advice` on what to do.

    `key` names the kind of concern, for monitors; `section` is a section of the operations guide.
    """

    key: str
    severity: Literal["warning", "error"]
    what: str
    advice: str
    section: str


@dataclass(frozen=True, slots=True)
class UpstreamStatus:
    """An upstream, as measured. Counts are of the last hour; durations in seconds.

    It is `idle` if the mirror has not asked it in the last hour, `failing` if each request of that
    hour failed, and `down` while it is probed instead of asked. `median` is the time to the
    headers of its answers, `failures` are missing answers and 5xx, `received` is in bytes.
    """

    name: str
    state: Literal["up", "failing", "down", "idle"]
    down_for: int | None
    median: float | None
    requests: int
    failures: int
    received: int


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """The pull limit of one account, in short; durations in seconds from now, as in `budget`."""

    upstream: str
    account: str
    limit: int | None
    remaining: int | None
    used: int
    others: int | None
    rate: float
    lasts: int | None
    whole: int | None
    shut: int


@dataclass(frozen=True, slots=True)
class SpanFigures:
    """The sums of a time span of `seconds`, of which the mirror has recorded `covered` seconds.

    `requests` counts the requests for manifests and blobs, `hits` the answers from the cache (hit,
    revalidated, stale), and `errors` the failures. `sent` and `sent_from_cache` are bytes, `asked`
    the pulls that clients made, `counted` the pulls that upstream counted, and `spared` the
    estimated seconds that clients did not wait for upstream. `upstream_requests`,
    `upstream_failures` and `received` (in bytes) are about upstream.
    """

    name: Literal["hour", "day", "week"]
    seconds: int
    covered: int
    requests: int
    hits: int
    stale: int
    errors: int
    sent: int
    sent_from_cache: int
    asked: int
    counted: int
    spared: int
    upstream_requests: int
    upstream_failures: int
    received: int

    @property
    def not_counted(self) -> int:
        """The pulls of clients that upstream did not count; not negative."""
        return max(0, self.asked - self.counted)

    @property
    def not_downloaded(self) -> int:
        """The bytes sent to clients that upstreams did not send; not negative."""
        return max(0, self.sent - self.received)


@dataclass(frozen=True, slots=True)
class DiskStatus:
    """The disk in bytes. `lasts` estimates the days that unused content stays stored.

    It is None if nothing was evicted for as long as the history goes back, or if that is short.
    """

    used: int
    limit: int
    quarantine: int
    blobs: int
    manifests: int
    lasts: float | None
    trouble: str | None


@dataclass(frozen=True, slots=True)
class HourEvents:
    """Events of the last hour that may need attention.

    `log_lines` were dropped, `logins` of clients were wrong, `shed` connections were beyond the
    bound, and content was damaged or could not be stored (`store`).
    """

    log_lines: int
    logins: int
    shed: int
    store: int


@dataclass(frozen=True, slots=True)
class ScheduleStatus:
    """A schedule and its last run since the start of the mirror. Times are epoch seconds.

    `next` is the time of its next run, None if there will be none. `began` is None before its first
    run, and `ended` during a run. That run stored `stored` of `images` images; `failure` is the
    reason why it stored none of them.
    """

    name: str
    next: float | None = None
    began: float | None = None
    ended: float | None = None
    images: int = 0
    stored: int = 0
    failure: str | None = None

    @property
    def failed(self) -> bool:
        """Whether the last run, which has ended, stored less than all images."""
        return self.failure is not None or self.stored < self.images


@dataclass(frozen=True, slots=True)
class Status:
    """The state of the mirror. Times are epoch seconds, durations seconds.

    `concerns` follow from the other figures. `certificate_end` is None without a certificate,
    `absent_pins` are the pinned tags that their upstreams do not have any more.
    Without a `running` mirror, disk, limits and history are those of the data folder, and all
    other figures are 0.
    """

    version: str
    host: str
    at: float
    started: float
    uptime: int
    concerns: tuple[Concern, ...]
    upstreams: tuple[UpstreamStatus, ...]
    limits: tuple[LimitStatus, ...]
    spans: tuple[SpanFigures, ...]
    disk: DiskStatus
    fetches: int
    followers: int
    connections: int
    events: HourEvents
    certificate_end: float | None
    absent_pins: tuple[str, ...] = ()
    schedules: tuple[ScheduleStatus, ...] = ()
    running: bool = True
    kind: Literal["status_report"] = "status_report"
