"""Telemetry of a request to upstream: its record, and headers about pull limits and retries."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

Kind = Literal["manifest", "blob", "tags", "referrers", "token"]

PACE = 5  # seconds to wait after a 429 without Retry-After
_LONGEST = 86_400  # seconds
_LEAST_WINDOW = 600  # seconds
_LONGEST_WINDOW = 31 * 86_400  # seconds; the ledger keeps all pulls of a window
_UNPRINTABLE = re.compile(r"[^ -~]")
_NAMES = ("ratelimit-limit", "ratelimit-remaining")
_RATE = re.compile(r"(\d{1,9})(?:\s*;\s*w=(\d{1,9}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class PullLimit:
    """The pull limit as upstream last reported it. `window` is in seconds."""

    limit: int
    remaining: int
    window: int | None
    source: str


@dataclass(frozen=True, slots=True)
class UpstreamResponse:
    """The record of one request to upstream; no `status` means that no response came.

    `asked` is the last part of the path: a tag or a digest.
    `seconds` runs from the request to the response's headers. `spent`: a 429 says that no pull is
    left. `retry_after`: the seconds that a 429 names. `garbled`: the response names a limit that
    cannot be parsed.
    """

    upstream: str
    account: str
    kind: Kind
    method: str
    status: int | None
    seconds: float
    repository: str
    asked: str
    limit: PullLimit | None = None
    spent: bool = False
    retry_after: int | None = None
    garbled: bool = False

    @property
    def counted(self) -> bool:
        """Whether Docker Hub counts this as a pull: each successful GET of a manifest.

        A proxy in between may have turned its 200 into a 203 (RFC 9110, 15.3.4).
        """
        granted = self.status is not None and 200 <= self.status < 300
        return self.kind == "manifest" and self.method == "GET" and granted


Observer = Callable[[UpstreamResponse], None]  # is told of each response, at once


def read_limit(headers: Mapping[str, str], *, windowless: bool) -> PullLimit | None:
    """Parse `ratelimit-limit: 100;w=21600` and the related headers; None if they are no pull limit.

    Gateways report a request rate per minute in the same headers, some with a window (IETF draft
    httpapi-ratelimit-headers). A pull limit has a window of ten minutes or more, or comes from a
    registry that is known to count pulls (`windowless`). A window of more than a month is rejected:
    no registry has one, and all pulls within it would be kept.
    """
    if _is_mirrors(headers):
        return None
    limit, remaining = (_RATE.fullmatch(headers.get(name, "").strip()) for name in _NAMES)
    if limit is None or remaining is None:
        return None
    window = limit[2] or remaining[2]
    if not windowless and int(window or 0) < _LEAST_WINDOW:
        return None
    if int(window or 0) > _LONGEST_WINDOW:
        return None
    # Printed on terminals and stored in the index: neither accepts every byte that a header may
    # hold.
    source = _UNPRINTABLE.sub("?", headers.get("docker-ratelimit-source", "").strip()[:128])
    return PullLimit(int(limit[1]), int(remaining[1]), int(window) if window else None, source)


def names_limit(headers: Mapping[str, str]) -> bool:
    """Whether a response has a pull limit's headers, valid or not."""
    return any(name in headers for name in _NAMES) and not _is_mirrors(headers)


def _is_mirrors(headers: Mapping[str, str]) -> bool:
    """Whether the response is another mirror's, which serves more than its limit covers."""
    return headers.get("Cache-Status", "").startswith("mirror;")


def read_retry_after(headers: Mapping[str, str]) -> int | None:
    """Parse Retry-After into seconds, at most a day; None if missing or invalid.

    It is a number of seconds or a date (RFC 9110, 10.2.3). A date is compared with the response's
    own Date, if present, so that the two clocks need not agree.
    """
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return min(int(text), _LONGEST)
    until = read_date(text)
    if until is None:
        return None
    now = read_date(headers.get("Date", "")) or datetime.now(UTC)
    return min(max(0, math.ceil((until - now).total_seconds())), _LONGEST)


def read_date(text: str) -> datetime | None:
    """Parse a date of HTTP; None if it is invalid."""
    try:
        date = parsedate_to_datetime(text[:64])
    except (ValueError, TypeError, OverflowError):
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date
