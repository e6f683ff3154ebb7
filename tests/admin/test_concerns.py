"""Concerns: what needs attention is judged from measurements, with advice that leads on."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from mirror.admin.messages import (
    DiskStatus,
    HourEvents,
    LimitStatus,
    ScheduleStatus,
    SpanFigures,
    Status,
    UpstreamStatus,
)
from mirror.admin.operations import concerns

GUIDE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
DAY = 86_400
UP = UpstreamStatus("docker.io", "up", None, 0.1, 100, 0, 1000)
LIMIT = LimitStatus("docker.io", "", 100, 60, 40, 0, 9.0, None, 3600, 0)
HOUR = SpanFigures("hour", 3600, 3600, 1000, 900, 0, 0, 10, 9, 5, 1, 0, 1, 0, 1)
DISK = DiskStatus(50, 100, 0, 5, 5, 30.0, None)
NIGHTLY = ScheduleStatus('"0 5 * * *" of nginx', 2e6, 999_000.0, 999_100.0, images=3, stored=3)
NO_EVENTS = HourEvents(log_lines=0, logins=0, shed=0, store=0)
WELL = Status(
    version="1",
    host="mirror",
    at=1_000_000.0,
    started=0.0,
    uptime=1_000_000,
    concerns=(),
    upstreams=(UP,),
    limits=(LIMIT,),
    spans=(HOUR,),
    disk=DISK,
    fetches=0,
    followers=0,
    connections=0,
    events=NO_EVENTS,
    certificate_end=1_000_000.0 + 80 * DAY,
)


def upstream(**changes: object) -> Status:
    """All is well but for the upstream."""
    return replace(WELL, upstreams=(replace(UP, **changes),))  # type: ignore[arg-type]


def limit(**changes: object) -> Status:
    """All is well but for the limit."""
    return replace(WELL, limits=(replace(LIMIT, **changes),))  # type: ignore[arg-type]


def disk(**changes: object) -> Status:
    """All is well but for the disk."""
    return replace(WELL, disk=replace(DISK, **changes))  # type: ignore[arg-type]


CASES = {
    "not_running": replace(WELL, running=False),
    "upstream_down": upstream(state="down", down_for=700),
    "upstream_failing": upstream(failures=30),
    "budget_spent": limit(remaining=0, shut=600),
    "gate_shut": limit(shut=600),
    "budget_short": limit(lasts=1800),
    "disk_trouble": disk(trouble="cannot write to /data"),
    "quarantine": disk(quarantine=5000),
    "disk_small": disk(lasts=0.5),
    "store_failures": replace(WELL, events=replace(NO_EVENTS, store=1)),
    "errors": replace(WELL, spans=(replace(HOUR, errors=20),)),
    "stale": replace(WELL, spans=(replace(HOUR, stale=20),)),
    "logins": replace(WELL, events=replace(NO_EVENTS, logins=20)),
    "shed": replace(WELL, events=replace(NO_EVENTS, shed=1)),
    "log_lines": replace(WELL, events=replace(NO_EVENTS, log_lines=1)),
    "pins_absent": replace(WELL, absent_pins=("ghcr.io/a:1", "ghcr.io/b:1")),
    "schedule_failed": replace(WELL, schedules=(replace(NIGHTLY, stored=2),)),
    "certificate": replace(WELL, certificate_end=1_000_000.0 + 5 * DAY),
}


def test_nothing_needs_attention_where_all_is_well() -> None:
    assert concerns.concerns(WELL) == []
    assert concerns.concerns(replace(WELL, certificate_end=None, limits=(), upstreams=())) == []


@pytest.mark.parametrize("key", CASES)
def test_each_fault_is_one_concern_with_advice(key: str) -> None:
    [concern] = concerns.concerns(CASES[key])
    assert concern.key == key
    assert concern.what.endswith(".")
    assert concern.advice.endswith(".")


@pytest.mark.parametrize("key", CASES)
def test_each_concern_leads_to_a_section_that_names_it(key: str) -> None:
    [concern] = concerns.concerns(CASES[key])
    headings = re.findall(r"^#+ (.+)$", GUIDE, re.MULTILINE)
    assert concern.section in {heading.lower().replace(" ", "-") for heading in headings}
    assert f"| `{key}` |" in GUIDE


def test_a_run_of_a_schedule_is_a_concern_only_after_it_has_failed() -> None:
    begun = replace(NIGHTLY, ended=None, images=0, stored=0)
    never = ScheduleStatus("never")
    assert concerns.concerns(replace(WELL, schedules=(NIGHTLY, begun, never))) == []
    [concern] = concerns.concerns(replace(WELL, schedules=(replace(NIGHTLY, failure="no room"),)))
    assert concern.what == 'The last run of the schedule "0 5 * * *" of nginx failed: no room.'
    [concern] = concerns.concerns(replace(WELL, schedules=(replace(NIGHTLY, stored=2),) * 3))
    assert concern.what.endswith("2 of 3 images are stored. So did 2 more.")


def test_an_upstream_that_failed_each_request_is_a_concern_at_once() -> None:
    [concern] = concerns.concerns(upstream(state="failing", requests=1, failures=1))
    assert (concern.key, concern.severity) == ("upstream_failing", "warning")
    assert concern.what == "docker.io failed 1 of 1 requests in the last hour."


def test_errors_come_before_warnings() -> None:
    both = replace(WELL, events=replace(NO_EVENTS, shed=1), disk=replace(DISK, trouble="torn"))
    assert [concern.severity for concern in concerns.concerns(both)] == ["error", "warning"]


def test_a_few_failures_are_no_concern() -> None:
    few = replace(
        upstream(failures=9),
        spans=(replace(HOUR, errors=9, stale=9),),
        events=replace(NO_EVENTS, logins=19),
    )
    assert concerns.concerns(few) == []


def test_a_certificate_that_has_ended_is_an_error() -> None:
    [concern] = concerns.concerns(replace(WELL, certificate_end=900_000.0))
    assert (concern.key, concern.severity) == ("certificate", "error")
