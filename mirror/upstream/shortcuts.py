"""Shortcuts: whether a host's HEAD or Range is worth asking for, by how it went of late. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from cachetools import LRUCache
from yarl import URL

Shortcut = Literal["head manifest", "head blob", "range"]

_IN_A_ROW = 2  # refusals, each made good by the plain way, after which a shortcut is left out
_FIRST_REST = 60.0  # seconds
_LONGEST_REST = 600.0
_HOSTS = 1024  # whose shortcuts are remembered


@dataclass(slots=True)
class _Record:
    """How a shortcut fared: failures in a row, and until when it is left out."""

    failures: int = 0
    rest: float = 0.0
    until: float = 0.0


class Shortcuts:
    """Remembers which shortcuts hosts refuse. `timer` counts seconds and never steps.

    A refusal counts only where the plain way then gave what was asked for: what is refused both
    ways says nothing about the shortcut. A shortcut that is left out costs bytes or a pull, never
    an answer.
    """

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self._timer = timer
        self._records: LRUCache[tuple[URL, Shortcut], _Record] = LRUCache(_HOSTS)

    def __repr__(self) -> str:
        resting = [f"{key[1]} of {key[0].host}" for key in self._records if not self.worth(*key)]
        return f"<Shortcuts: left out are {', '.join(resting) or 'none'}>"

    def worth(self, host: URL, shortcut: Shortcut) -> bool:
        """Whether the shortcut may be tried at the host of this URL."""
        record = self._records.get((host.origin(), shortcut))
        return record is None or self._timer() >= record.until

    def failed(self, host: URL, shortcut: Shortcut) -> None:
        """Note that a host refused a shortcut and gave the same by the plain way.

        After the rest one refusal more is enough, and the next rest is twice as long.
        """
        key = (host.origin(), shortcut)
        record = self._records.setdefault(key, _Record())
        record.failures += 1
        if record.failures >= _IN_A_ROW and self.worth(host, shortcut):
            record.rest = min(2 * record.rest or _FIRST_REST, _LONGEST_REST)
            record.until = self._timer() + record.rest

    def worked(self, host: URL, shortcut: Shortcut) -> None:
        """Note that a host served a shortcut: earlier refusals count no more."""
        self._records.pop((host.origin(), shortcut), None)
