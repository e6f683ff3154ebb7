"""Sizes and durations as settings have them, with units, and the bound on what is kept."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, ByteSize, Field, TypeAdapter, ValidationError
from pydantic_settings import NoDecode

from mirror.settings.values import ConfigurationError, Form
from mirror.sizes import human

SMALLEST = 64 * 1024**2  # bytes; less holds no image, and is nearly always a mistake
_LARGEST = 2**63 - 1  # bytes; no file system holds more, and SQLite counts no further
# pydantic takes a size for whole as soon as it begins with one: "1,5GiB" for a byte.
_SIZE = re.compile(r"\d{1,20}(?:\.\d{1,20})? ?(?:([kmgtpe]i)|[a-z]*)", re.ASCII | re.IGNORECASE)
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
        raise ValueError("bytes are wanted, with or without a suffix, such as 50GiB or 800MB")
    return size


def _whole(value: object) -> object:
    """Return a value as pydantic reads it; None for what is a size at its beginning only."""
    if not isinstance(value, str):
        return None if isinstance(value, bool) else value
    found = _SIZE.fullmatch(text := value.strip())
    return found and text + ("B" if found[1] else "")  # Kubernetes has 50Gi


def parse_duration(value: object) -> float:
    """Read seconds, or a duration with units; raises ValueError."""
    text = str(value).strip()
    if _DURATION.fullmatch(text):
        parts: list[tuple[str, str]] = re.findall(_PART, text)
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    else:
        seconds = _number(text)
    if not 0 <= seconds < 1e9:
        raise ValueError(
            'a duration is wanted: seconds, such as 60 or 2.5, or "5m", "1h30m", "30d"'
        )
    return seconds


def _number(text: str) -> float:
    """Read a number as it is written everywhere, not only in Python; returns -1 for what is none.

    Python has 1_000, and the digits of all scripts.
    """
    try:
        return float(text) if _PLAIN.fullmatch(text) else -1.0
    except ValueError:
        return -1.0


@dataclass(frozen=True, slots=True)
class Bound:
    """The most that is kept: so many bytes, or a part of the file system."""

    bytes: int = 0
    percent: float = 0.0

    def of(self, folder: Path) -> int:
        """Return how many bytes that is, for a folder that need not be there yet.

        Raises ConfigurationError.
        """
        if self.bytes:
            return self.bytes
        try:
            return self._part(shutil.disk_usage(_existing(folder)).total)
        except OSError as error:
            raise ConfigurationError(
                f"max_size is '{self}', and the file system of {folder} cannot be looked at: "
                f"{error.strerror}"
            ) from None

    def beyond(self, folder: Path) -> str | None:
        """Say so where it is more than the file system that holds a folder has in all."""
        place = _existing(folder)
        total = shutil.disk_usage(place).total
        if not total or self.bytes <= total:  # some file systems do not say what they have
            return None
        return (
            f"max_size is '{self}': the file system that holds {place} has no more "
            f'than {human(total)} in all, and is full before that; a part of it, such as "80%", '
            "keeps to what there is"
        )

    def _part(self, total: int) -> int:
        size = int(total * self.percent / 100)
        if size < SMALLEST:
            raise ConfigurationError(
                f"max_size is '{self}': that is {human(size)} of the file system's "
                f"{human(total)}; at least {human(SMALLEST)} is wanted"
            )
        return size

    def __str__(self) -> str:
        return human(self.bytes) if self.bytes else f"{self.percent:g}%"


def _existing(folder: Path) -> Path:
    # A folder that may not be looked into is none here, and no error.
    found = (each for each in (folder, *folder.parents) if os.path.exists(each))  # noqa: PTH110
    return next(found, Path("/"))


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
        f"bytes with or without a suffix are wanted, such as 50GiB, at least {human(SMALLEST)}, "
        'or a part of the file system, such as "80%"'
    )


Size = Annotated[int, BeforeValidator(parse_size), Form("SIZE")]
Seconds = Annotated[float, BeforeValidator(parse_duration), Form("DURATION")]
Patience = Annotated[Seconds, Field(gt=0)]  # none at all would refuse everything
MaxSize = Annotated[Bound, NoDecode, BeforeValidator(_bound), Form("SIZE|PERCENT")]
