"""Measures in settings: sizes and durations with units, and the bounds on stored data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, ByteSize, Field, TypeAdapter, ValidationError
from pydantic_settings import NoDecode

from mirror.settings.values import ConfigurationError, Form
from mirror.util.units import human

SMALLEST = 64 * 1024**2  # bytes; less holds no image, and is nearly always a mistake
_LARGEST = 2**63 - 1  # bytes; no file system holds more, and SQLite counts no further
# pydantic accepts any text that begins with a size: "1,5GiB" as a byte.
_SIZE = re.compile(r"\d{1,20}(?:\.\d{1,20})? ?(?:([kmgtpe]i)|[a-z]*)", re.ASCII | re.IGNORECASE)
_SIZES = {"TiB": 1024**4, "GiB": 1024**3, "MiB": 1024**2, "KiB": 1024}
_SIZES |= {"TB": 1000**4, "GB": 1000**3, "MB": 1000**2, "kB": 1000}
_MOST_PINNED = 90  # per cent; the rest is for pulled content
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_PART = r"(\d{1,12}(?:\.\d{1,6})?) ?(ms|s|min|m|h|d|w)"
_DURATION = re.compile(rf"{_PART}(?: ?{_PART})*", re.ASCII)
_PLAIN = re.compile(r"[0-9.e+-]{1,40}", re.ASCII | re.IGNORECASE)


def parse_size(value: object) -> int:
    """Read bytes, with or without a suffix; raises ValueError."""
    try:
        size = int(TypeAdapter(ByteSize).validate_python(_whole(value)))
    except ValidationError:
        size = -1
    if not 0 <= size <= _LARGEST:
        raise ValueError("expected bytes, with or without a suffix, such as 50GiB or 800MB")
    return size


def _whole(value: object) -> object:
    """Return a value for pydantic to read; None for text that only begins with a size."""
    if not isinstance(value, str):
        return None if isinstance(value, bool) else value
    found = _SIZE.fullmatch(text := value.strip())
    return found and text + ("B" if found[1] else "")  # Kubernetes writes 50Gi


def written_size(size: int) -> str | int:
    """Write bytes as a file would have them, exactly: in a unit that divides them, if one does."""
    units = (f"{size // unit}{name}" for name, unit in _SIZES.items() if size % unit == 0)
    return next(units, size) if size else 0


def parse_duration(value: object) -> float:
    """Read seconds, or a duration with units; raises ValueError."""
    text = str(value).strip()
    if _DURATION.fullmatch(text):
        parts: list[tuple[str, str]] = re.findall(_PART, text)
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    else:
        seconds = _number(text)
    if not 0 <= seconds < 1e9:
        raise ValueError('expected a duration: seconds, such as 60 or 2.5, or "5m", "1h30m", "30d"')
    return seconds


def _number(text: str) -> float:
    """Read a number in common notation; returns -1 for other text.

    Python also accepts 1_000, and the digits of all scripts.
    """
    try:
        return float(text) if _PLAIN.fullmatch(text) else -1.0
    except ValueError:
        return -1.0


def written_duration(seconds: float) -> str | int | float:
    """Write seconds as a file would have them, exactly: with units, if that is short enough."""
    if not seconds.is_integer():
        text = f"{seconds:g}s"
        return text if seconds < 60 and parse_duration(text) == seconds else seconds
    parts, left = "", int(seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, left = divmod(left, size)
        parts += f"{number}{unit}" if number else ""
    return parts or 0


@dataclass(frozen=True, slots=True)
class Bound:
    """The most bytes to store: a number, or a part of the file system."""

    bytes: int = 0
    percent: float = 0.0

    def of(self, total: int) -> int:
        """Return the bound in bytes, in a file system of `total` bytes.

        Raises ConfigurationError if its part of the file system would hold no image.
        """
        if self.bytes:
            return self.bytes
        size = int(total * self.percent / 100)
        if size < SMALLEST:
            raise ConfigurationError(
                f"max_size is '{self}': that is {human(size)} of the file system's "
                f"{human(total)}; expected at least {human(SMALLEST)}"
            )
        return size

    def __str__(self) -> str:
        return human(self.bytes) if self.bytes else f"{self.percent:g}%"


@dataclass(frozen=True, slots=True)
class PinnedPart:
    """A part of `max_size`, in per cent."""

    percent: float

    @property
    def fraction(self) -> float:
        """The part as a number from 0 to 1."""
        return self.percent / 100

    def __str__(self) -> str:
        return f"{self.percent:g}%"


def _part(value: object) -> PinnedPart:
    if isinstance(value, PinnedPart):
        return value
    text = str(value).strip()
    percent = _number(text.removesuffix("%").rstrip()) if text.endswith("%") else 0.0
    if not 1 <= percent <= _MOST_PINNED:
        raise ValueError(f'expected a part of max_size, from "1%" to "{_MOST_PINNED}%"')
    return PinnedPart(percent)


def _bound(value: object) -> Bound:
    if isinstance(value, Bound):
        return value
    text = str(value).strip()
    try:
        if text.endswith("%"):
            percent = _number(text.removesuffix("%").rstrip())
            if 0 < percent <= 100:
                return Bound(percent=percent)
        elif (size := parse_size(value)) >= SMALLEST:
            return Bound(size)
    except ValueError:
        pass
    raise ValueError(
        f"expected bytes with or without a suffix, such as 50GiB, at least {human(SMALLEST)}, "
        'or a part of the file system, such as "80%"'
    )


Size = Annotated[int, BeforeValidator(parse_size), Form("SIZE")]
Seconds = Annotated[float, BeforeValidator(parse_duration), Form("DURATION")]
Patience = Annotated[Seconds, Field(gt=0)]  # with 0, every request would fail
MaxSize = Annotated[Bound, NoDecode, BeforeValidator(_bound), Form("SIZE|PERCENT")]
MaxPinned = Annotated[PinnedPart, NoDecode, BeforeValidator(_part), Form("PERCENT")]
