"""What needs attention: judged from measured figures, each with what to do. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mirror.admin.messages.status import Concern, LimitStatus, Status
from mirror.util.units import duration, human

_DAY = 86_400  # seconds
_SOON = 3600  # seconds until a limit is spent
_CERTIFICATE = 14 * _DAY  # seconds; renewing programs renew a month before the end
_LOGINS = 20  # an hour: a mistyped password, tried again by an engine, makes some
_FEW = 10  # requests; a share of less says nothing
_SHARE = 0.01  # of the requests
_FAILING = 0.2  # of the requests to an upstream


def concerns(status: Status) -> list[Concern]:
    """Return all concerns about a status, errors first. They have no names but those in it."""
    found = [concern for judge in _JUDGES for concern in judge(status)]
    return sorted(found, key=lambda concern: concern.severity != "error")


def _running(status: Status) -> Iterator[Concern]:
    if not status.running:
        yield Concern(
            "not_running",
            "error",
            "No mirror runs on this data folder.",
            "Start it. If it should be running, the end of its log has the reason.",
            "when-it-does-not-start",
        )


def _upstreams(status: Status) -> Iterator[Concern]:
    for upstream in status.upstreams:
        if upstream.state == "down":
            down = duration(upstream.down_for or 0)
            yield Concern(
                "upstream_down",
                "error",
                f"{upstream.name} has been down for {down}: stored content is still served.",
                "The log has the reason; `mirror check --online` asks it again.",
                "needs-attention",
            )
        elif upstream.state == "failing" or (
            upstream.failures >= _FEW and upstream.failures >= _FAILING * upstream.requests
        ):
            yield Concern(
                "upstream_failing",
                "warning",
                f"{upstream.name} failed {upstream.failures} of {upstream.requests} requests in "
                "the last hour.",
                "The log has the reasons; `mirror check --online` asks it again.",
                "needs-attention",
            )


def _named(limit: LimitStatus) -> str:
    """Return an account as concerns name it."""
    return f"{limit.upstream} ({limit.account or 'anonymous'})"


def _limits(status: Status) -> Iterator[Concern]:
    for limit in status.limits:
        name = _named(limit)
        if limit.remaining == 0:
            yield Concern(
                "budget_spent",
                "error",
                f"The pulls of {name} are spent; the next one is back in {duration(limit.shut)}.",
                "`mirror budget` shows the spenders. Give the mirror an account, or set shares.",
                "when-no-pull-is-left",
            )
        elif limit.shut:
            yield Concern(
                "gate_shut",
                "error",
                f"{name} refused a pull: none is requested for {duration(limit.shut)}.",
                "`mirror budget` shows upstream's figures; others may use the same address.",
                "when-no-pull-is-left",
            )
        elif limit.remaining is not None and limit.lasts is not None and limit.lasts <= _SOON:
            yield Concern(
                "budget_short",
                "warning",
                f"The {limit.remaining} pulls left of {name} last for {duration(limit.lasts)}.",
                "`mirror budget` shows the spenders.",
                "while-few-pulls-are-left",
            )


def _disk(status: Status) -> Iterator[Concern]:
    disk = status.disk
    if disk.trouble is not None:
        yield Concern(
            "disk_trouble",
            "error",
            f"The data folder fails: {disk.trouble}.",
            "Pulls go on, nothing is stored. Repair the disk, or free space outside of the folder.",
            "when-the-disk-fails",
        )
    if stored := status.events.store:
        yield Concern(
            "store_failures",
            "warning",
            f"Content could not be stored, or was damaged: {stored} times in the last hour.",
            "The log names each. A full disk, or a `max_size` beyond the disk, is the usual cause.",
            "when-the-disk-fails",
        )
    if disk.quarantine:
        yield Concern(
            "quarantine",
            "warning",
            f"{human(disk.quarantine)} of damaged files are in quarantine.",
            "`mirror verify` finds further ones; the disk may be failing.",
            "when-the-disk-fails",
        )
    if disk.lasts is not None and disk.lasts < 1:
        yield Concern(
            "disk_small",
            "warning",
            f"Unused content is evicted after {duration(disk.lasts * _DAY)}.",
            "Raise `max_size`: content is fetched again and again.",
            "how-large-a-disk",
        )


def _pins(status: Status) -> Iterator[Concern]:
    if absent := status.absent_pins:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        yield Concern(
            "pins_absent",
            "warning",
            f"Upstream no longer has pinned tags, or denies them: {absent[0]}{more}.",
            "Their last content stays. If that is not needed, `mirror unpin` lets it go.",
            "pinned-images",
        )


def _schedules(status: Status) -> Iterator[Concern]:
    failed = [each for each in status.schedules if each.failed]
    if failed:
        first = failed[0]
        why = first.failure or f"{first.stored} of {first.images} images are stored"
        more = f" So did {len(failed) - 1} more." if len(failed) > 1 else ""
        yield Concern(
            "schedule_failed",
            "warning",
            f"The last run of the schedule {first.name} failed: {why}.{more}",
            "The log names each image that failed, and why; the next run tries them again.",
            "warming",
        )


def _answers(status: Status) -> Iterator[Concern]:
    hour = next(each for each in status.spans if each.name == "hour")
    least = max(_FEW, _SHARE * hour.requests)
    if hour.errors >= least:
        yield Concern(
            "errors",
            "error",
            f"{hour.errors} of {hour.requests} requests failed in the last hour.",
            "The recent requests name the reason of each.",
            "needs-attention",
        )
    if hour.stale >= least:
        yield Concern(
            "stale",
            "warning",
            f"{hour.stale} of {hour.requests} answers of the last hour were stale.",
            "The recent requests name the reason of each: upstream fails, or pulls are saved.",
            "needs-attention",
        )


def _clients(status: Status) -> Iterator[Concern]:
    logins, shed = status.events.logins, status.events.shed
    if logins >= _LOGINS:
        yield Concern(
            "logins",
            "warning",
            f"{logins} wrong logins of clients in the last hour.",
            "The log names their addresses: an old password, or guesses.",
            "needs-attention",
        )
    if shed:
        yield Concern(
            "shed",
            "warning",
            f"{shed} connections were closed in the last hour, because there were too many.",
            "Raise `max_connections`, or the limit of open files that the mirror is started with.",
            "needs-attention",
        )


def _itself(status: Status) -> Iterator[Concern]:
    if dropped := status.events.log_lines:
        yield Concern(
            "log_lines",
            "warning",
            f"{dropped} lines of the log were dropped in the last hour.",
            "The program that reads the log is too slow, or has stopped.",
            "the-access-log",
        )
    if status.certificate_end is None:
        return
    left = status.certificate_end - status.at
    if left <= 0:
        what = f"The certificate ended {duration(-left)} ago: clients refuse the mirror."
        yield Concern("certificate", "error", what, _RENEW, "tls")
    elif left < _CERTIFICATE:
        what = f"The certificate ends in {duration(left)}."
        yield Concern("certificate", "warning", what, _RENEW, "tls")


_RENEW = "Renew it: the mirror takes up the new file by itself."
_JUDGES: tuple[Callable[[Status], Iterator[Concern]], ...] = (
    _running,
    _upstreams,
    _limits,
    _disk,
    _pins,
    _schedules,
    _answers,
    _clients,
    _itself,
)
