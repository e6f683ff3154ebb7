"""Platforms: operating system, architecture and variant, in the form that engines compare."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_WORD = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}", re.ASCII)
_SYSTEMS = {"macos": "darwin"}
# Names of architectures in other programs, each with its variant (containerd, `platforms`).
_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv6l": ("arm", "v6"),
}
_USUAL = {("amd64", "v1"): "", ("arm64", "v8"): "", ("arm64", "8"): "", ("arm", ""): "v7"}
_KNOWN_SYSTEMS = frozenset({"linux", "windows", "darwin", "freebsd", "wasi", "wasip1", "js"})


@dataclass(frozen=True, slots=True, order=True)
class Platform:
    """A platform. The usual variant of an architecture is left out; that of `arm` is `v7`."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


def parse_platform(text: str) -> Platform:
    """Parse `linux/arm64`, `linux/arm/v7` or `arm64`; raises ValueError."""
    words = text.strip().lower().split("/")
    if len(words) == 1 and words[0] not in _KNOWN_SYSTEMS:
        words = ["linux", *words]
    if not 2 <= len(words) <= 3 or not all(map(_WORD.fullmatch, words)):
        raise ValueError(
            f"{text!r}: expected a platform, such as linux/amd64, linux/arm64 or linux/arm/v7"
        )
    return _usual(*words)


def read_platform(value: object) -> Platform | None:
    """Read the platform of an index's entry; None if it has none that can be used."""
    fields: dict[str, Any] = value if isinstance(value, dict) else {}
    words = [fields.get(key) or "" for key in ("os", "architecture", "variant")]
    texts = [word.lower() for word in words if isinstance(word, str)]
    if len(texts) < 3 or not all(_WORD.fullmatch(word) for word in filter(None, texts)):
        return None
    return _usual(*texts) if texts[0] and texts[1] else None


def best(wanted: Platform, offered: Iterable[Platform]) -> Platform | None:
    """Return the offered platform that an engine of the wanted one would take; None without one."""
    same = [
        each for each in offered if (each.os, each.architecture) == (wanted.os, wanted.architecture)
    ]
    if wanted in same:
        return wanted
    if wanted.architecture == "arm":  # a processor runs the code for its predecessors
        same = [each for each in same if each.variant <= wanted.variant]
        return max(same, default=None)
    if wanted.variant:
        return next((each for each in same if not each.variant), None)
    return min(same, default=None)


def _usual(os: str, architecture: str, variant: str = "") -> Platform:
    architecture, implied = _ARCHITECTURES.get(architecture, (architecture, ""))
    variant = variant or implied
    return Platform(
        _SYSTEMS.get(os, os), architecture, _USUAL.get((architecture, variant), variant)
    )
