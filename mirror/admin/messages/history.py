"""`history`: the order and its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator
from pydantic.dataclasses import dataclass as checked

from mirror.admin.messages.common import STRICT

Span = Literal["hour", "day", "week", "month", "year"]


def _number(value: object) -> object:
    """Return the number of a query's text, so that it is compared with the allowed ones."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


_Step = Annotated[Literal[60, 600, 3600, 86_400], BeforeValidator(_number)]


@checked(frozen=True, config=STRICT)
class HistoryOrder:
    """Report the figures of a time span, of one upstream or of all together.

    `step` is the length of the steps in seconds: 60 (recorded for 25 hours), 600 (for 8 days), or a
    multiple of 3600 (for 400 days). Without it, a span has 60 to 800 steps.
    """

    span: Span = "day"
    upstream: str | None = None
    step: _Step | None = None
    kind: Literal["history"] = "history"

    def __str__(self) -> str:
        """Return the order as the operator types it."""
        return f"{self.kind} {self.span}"


@dataclass(frozen=True, slots=True)
class Point:
    """The sums of the step that began `at` epoch seconds.

    Fields as in `SpanFigures`; `ran` has the seconds of the step in which the mirror ran; 0 in the
    figures of one upstream.
    """

    at: int
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
    ran: int


@dataclass(frozen=True, slots=True)
class History:
    """The recorded steps of a span, each `step` seconds long, the oldest first.

    Steps in which the mirror did not run are missing: a gap is a gap.
    """

    span: Span
    upstream: str | None
    begin: int
    end: int
    step: int
    points: tuple[Point, ...]
    kind: Literal["recorded"] = "recorded"
