"""What upstream's answers say beside their bodies, and how each of them went."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

Kind = Literal["manifest", "blob", "tags", "referrers", "token"]

PACE = 5  # seconds to wait where a host refuses for the rate and does not say for how long
_LONGEST = 86_400  # seconds
_LEAST_WINDOW = 600  # seconds
_LONGEST_WINDOW = 31 * 86_400  # seconds: all pulls of a window are remembered
_UNPRINTABLE = re.compile(r"[^ -~]")
_NAMES = ("ratelimit-limit", "ratelimit-remaining")
_RATE = re.compile(r"(\d{1,9})(?:\s*;\s*w=(\d{1,9}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class PullLimit:
    """What upstream last said of its pull limit. `window` is in seconds."""

    limit: int
    remaining: int
    window: int | None
    source: str


@dataclass(frozen=True, slots=True)
class Ask:
    """On whose behalf upstream is asked: the client's address and the reference it named."""

    client: str
    reference: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One request to upstream as it went: no `status` means that no answer came.

    `seconds` runs from asking to the answer's headers. `spent` is a 429 that says that no pull is
    left, `retry_after` the seconds after which to ask again, if a 429 names them. `garbled` is that
    a limit is named which cannot be read.
    """

    upstream: str
    account: str
    kind: Kind
    method: str
    status: int | None
    seconds: float
    repository: str
    asked: str
    ask: Ask | None = None
    limit: PullLimit | None = None
    spent: bool = False
    retry_after: int | None = None
    garbled: bool = False

    @property
    def counted(self) -> bool:
        """Whether Docker Hub counts this as a pull: each GET of a manifest that it grants.

        A proxy on the way may have made a 203 of its 200 (RFC 9110, 15.3.4).
        """
        granted = self.status is not None and 200 <= self.status < 300
        return self.kind == "manifest" and self.method == "GET" and granted


def read_limit(headers: Mapping[str, str], *, windowless: bool) -> PullLimit | None:
    """Read `ratelimit-limit: 100;w=21600` and its companions; None where they are no pull limit.

    Gateways name their requests a minute in the same headers, some with a window (IETF draft
    httpapi-ratelimit-headers). A limit of pulls is one over ten minutes or more, or, if
    `windowless`, that of a registry which is known to count pulls. One over
    more than a month is none that anybody has: what was pulled in it would be kept for as long.
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
    # It goes to the index and to terminals: neither takes all that a header may hold.
    source = _UNPRINTABLE.sub("?", headers.get("docker-ratelimit-source", "").strip()[:128])
    return PullLimit(int(limit[1]), int(remaining[1]), int(window) if window else None, source)


def names_limit(headers: Mapping[str, str]) -> bool:
    """Whether a limit is named at all, be it one that can be read or not."""
    return any(name in headers for name in _NAMES) and not _is_mirrors(headers)


def _is_mirrors(headers: Mapping[str, str]) -> bool:
    """Whether it is another mirror that says what is left: it gives more than that will pay for."""
    return headers.get("Cache-Status", "").startswith("mirror;")


def read_retry_after(headers: Mapping[str, str]) -> int | None:
    """Read Retry-After in seconds, at most a day; None where it is missing or not understood.

    It is a number of seconds or a date (RFC 9110, 10.2.3), which is read by the sender's own clock
    if that is named, so that two clocks need not agree.
    """
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return min(int(text), _LONGEST)
    until = _read_date(text)
    if until is None:
        return None
    now = _read_date(headers.get("Date", "")) or datetime.now(UTC)
    return min(max(0, math.ceil((until - now).total_seconds())), _LONGEST)


def _read_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text[:64])
    except (ValueError, TypeError, OverflowError):
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date
