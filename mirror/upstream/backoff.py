"""Backoff after a 429: requests that are not repeated for a while. Pure.

A rate limit applies to the host, the kind and method of the request, and the name in it. If a host
refuses many names of one kind, backoff extends to the whole kind.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from cachetools import LRUCache
from yarl import URL

from mirror.upstream.telemetry import PACE

LONGEST = 10.0  # seconds of backoff, even for a longer Retry-After: a host may recover sooner
_MANY = 5  # names in backoff at once, from which on their whole kind is
_TOPICS, _NAMES = 1024, 256  # remembered; the least recently refused are dropped first


class Topic(NamedTuple):
    """The subject of a request. `name` distinguishes it within its kind: path and query."""

    kind: str
    method: str
    name: str

    @classmethod
    def of(cls, kind: str, method: str, url: URL) -> Self:
        """Return the subject of a request that begins at a URL."""
        return cls(kind, method, url.raw_path_qs)


@dataclass(slots=True)
class _Rest:
    """The end of a backoff, and the end that the host asked for."""

    ends: float
    wanted: float


@dataclass(slots=True)
class _Kind:
    names: LRUCache[str, _Rest] = field(default_factory=lambda: LRUCache(_NAMES))
    all: _Rest | None = None


class Backoff:
    """The rate limits of all hosts of one upstream. `timer` is monotonic, in seconds."""

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self._timer = timer
        self._kinds: LRUCache[tuple[URL, str, str], _Kind] = LRUCache(_TOPICS)

    def __repr__(self) -> str:
        return f"<Backoff: {len(self._kinds)} kinds of requests were refused>"

    def rest(self, host: URL, topic: Topic) -> int | None:
        """Return the seconds until the host accepts the request again; None to ask now.

        While a whole kind is in backoff, one request at a time is let through as a trial.
        """
        kind = self._kinds.get((host, topic.kind, topic.method))
        if kind is None:
            return None
        now = self._timer()
        resting = [each for each in (kind.names.get(topic.name), kind.all) if each]
        if any(now < each.ends for each in resting):
            return max(1, math.ceil(max(each.wanted for each in resting) - now))
        if kind.all is not None:
            kind.all.ends = now + LONGEST  # the others wait for the outcome of this one
        return None

    def rests(self, host: URL, kind: str, method: str) -> bool:
        """Whether any request of a kind is in backoff; takes no trial away from the others."""
        found, now = self._kinds.get((host, kind, method)), self._timer()
        return found is not None and (
            found.all is not None or any(now < each.ends for each in found.names.values())
        )

    def refused(self, host: URL, topic: Topic, retry_after: int | None) -> None:
        """Record a 429; `retry_after` in seconds, if the host sent it."""
        kind = self._kinds.setdefault((host, topic.kind, topic.method), _Kind())
        now, wait = self._timer(), max(1, PACE if retry_after is None else retry_after)
        rest = kind.names[topic.name] = _Rest(now + min(wait, LONGEST), now + wait)
        if sum(now < each.ends for each in kind.names.values()) >= _MANY:
            kind.all = _Rest(rest.ends, rest.wanted)

    def answered(self, host: URL, topic: Topic) -> None:
        """Record any other response: it ends the backoff of this name and of its kind."""
        kind = self._kinds.get((host, topic.kind, topic.method))
        if kind is not None:
            kind.all = None
            kind.names.pop(topic.name, None)
            if not kind.names:
                del self._kinds[host, topic.kind, topic.method]
