"""Numbers and times for people, as the templates write them."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from mirror.util.units import duration, human

NONE = "\N{EN DASH}"  # a figure that is not known
_NARROW = "\N{NARROW NO-BREAK SPACE}"
_DAY = 86_400


def count(number: float | None) -> str:
    """Return a number with its thousands apart."""
    return NONE if number is None else f"{number:,.0f}".replace(",", _NARROW)


def size(number: float | None) -> str:
    """Return bytes in the unit that fits."""
    return NONE if number is None else human(number)


def span(seconds: float | None) -> str:
    """Return a duration in the units that fit; less than ten seconds with a decimal."""
    if seconds is None:
        return NONE
    if 0 < seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 10 and seconds % 1 else duration(seconds)


def share(part: float, whole: float) -> str:
    """Return a share in percent; only all is 100 %, and only nothing is 0 %."""
    if not whole:
        return NONE
    percent = 100 * part / whole
    if 0 < part < whole:
        percent = min(max(percent, 0.1), 99.9)
    return f"{percent:.1f} %" if percent % 1 else f"{percent:.0f} %"


def clock(at: float, now: float) -> str:
    """Return a time of day in the mirror's zone, with the date if it is another day."""
    then, today = time.localtime(at), time.localtime(now)
    if then[:3] == today[:3]:
        return time.strftime("%H:%M:%S", then)
    return time.strftime("%Y-%m-%d %H:%M", then)


def ago(at: float, now: float) -> str:
    """Return how long ago a time was; 0 is a time that is not known."""
    if not at:
        return NONE
    return "just now" if now - at < 1 else f"{duration(now - at)} ago"


def iso(at: float) -> str:
    """Return a time for programs (RFC 3339)."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def short(digest: str) -> str:
    """Return the beginning of a digest, which people compare."""
    algorithm, _, value = digest.partition(":")
    return f"{algorithm}:{value[:12]}" if value else digest


def step_clock(at: int, length: int) -> str:
    """Return the begin of a step, as a label of an axis that is `length` seconds long."""
    then = time.localtime(at)
    if length <= 2 * _DAY:
        return time.strftime("%H:%M", then)
    return time.strftime("%a %d" if length <= 8 * _DAY else "%d %b", then)
