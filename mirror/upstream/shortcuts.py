"""Shortcuts: whether HEAD or Range is worth trying at a host, from its recent results. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from cachetools import LRUCache
from yarl import URL

Shortcut = Literal["head manifest", "head blob", "range"]

_IN_A_ROW = 2  # refusals, each followed by success without it, that disable a shortcut
_FIRST_REST = 60.0  # seconds
_LONGEST_REST = 600.0
_HOSTS = 1024  # hosts remembered


@dataclass(slots=True)
class _Record:
    """The record of a shortcut: failures in a row, and until when it is disabled."""

    failures: int = 0
    rest: float = 0.0
    until: float = 0.0


class Shortcuts:
    """A memory of refused shortcuts per host. `timer` is monotonic, in seconds.

    A refusal counts only if the plain request then succeeded: if both fail, the shortcut is not to
    blame. A disabled shortcut costs bytes or a pull, never an answer.
    """

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self._timer = timer
        self._records: LRUCache[tuple[URL, Shortcut], _Record] = LRUCache(_HOSTS)

    def __repr__(self) -> str:
        resting = [f"{key[1]} of {key[0].host}" for key in self._records if not self.worth(*key)]
        return f"<Shortcuts: left out are {', '.join(resting) or 'none'}>"

    def worth(self, host: URL, shortcut: Shortcut) -> bool:
        """Whether the shortcut should be tried at the host of this URL."""
        record = self._records.get((host.origin(), shortcut))
        return record is None or self._timer() >= record.until

    def failed(self, host: URL, shortcut: Shortcut) -> None:
        """Record that a host refused a shortcut, but served the plain request.

        After a pause one more refusal is enough, and the next pause is twice as long.
        """
        key = (host.origin(), shortcut)
        record = self._records.setdefault(key, _Record())
        record.failures += 1
        if record.failures >= _IN_A_ROW and self.worth(host, shortcut):
            record.rest = min(2 * record.rest or _FIRST_REST, _LONGEST_REST)
            record.until = self._timer() + record.rest

    def worked(self, host: URL, shortcut: Shortcut) -> None:
        """Record that a host served a shortcut: it clears earlier refusals."""
        self._records.pop((host.origin(), shortcut), None)
