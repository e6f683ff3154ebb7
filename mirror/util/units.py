"""Sizes, durations and numbers in words for people."""

from __future__ import annotations


def human(size: float) -> str:
    """Return bytes in the unit that fits."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun: `1 file`, `1,200 files`; `many` is for odd plurals."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def duration(seconds: float) -> str:
    """Return seconds in the one or two units that fit: `45 s`, `12 min`, `5 h 20 min`, `3 d`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{round(hours / 24)} d"
