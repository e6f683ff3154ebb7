"""Backoff: which questions a host refuses for their rate (429), and when each is asked again. Pure.

A rate limit holds for what it was said about: the host, the kind and method of the question, and
the name in it. Where a host refuses many names of one kind, that kind rests as a whole.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from cachetools import LRUCache
from yarl import URL

from mirror.upstream.answers import PACE

LONGEST = 10.0  # seconds without a question, whatever Retry-After says: a host may be well sooner
_MANY = 5  # names refused at the same time, beyond which their kind rests
_TOPICS, _NAMES = 1024, 256  # remembered; the least recently refused go first


class Topic(NamedTuple):
    """What a question is about. `name` tells it from others of its kind: its path and query."""

    kind: str
    method: str
    name: str


@dataclass(slots=True)
class _Rest:
    """Until when nothing is asked, and until when the host wants nothing to be asked."""

    ends: float
    wanted: float


@dataclass(slots=True)
class _Kind:
    names: LRUCache[str, _Rest] = field(default_factory=lambda: LRUCache(_NAMES))
    all: _Rest | None = None


class Backoff:
    """The rate limits of all hosts of one upstream. `timer` counts seconds and never steps."""

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self._timer = timer
        self._kinds: LRUCache[tuple[URL, str, str], _Kind] = LRUCache(_TOPICS)

    def __repr__(self) -> str:
        return f"<Backoff: {len(self._kinds)} kinds of questions were refused>"

    def rest(self, host: URL, topic: Topic) -> int | None:
        """Return after how many seconds the host wants to be asked again; None: ask now.

        A kind that rests as a whole is tried by one question at a time.
        """
        kind = self._kinds.get((host, topic.kind, topic.method))
        if kind is None:
            return None
        now = self._timer()
        resting = [each for each in (kind.names.get(topic.name), kind.all) if each]
        if any(now < each.ends for each in resting):
            return max(1, math.ceil(max(each.wanted for each in resting) - now))
        if kind.all is not None:
            kind.all.ends = now + LONGEST  # the others wait for what this one is told
        return None

    def refused(self, host: URL, topic: Topic, retry_after: int | None) -> None:
        """Note a 429; `retry_after` in seconds, as far as the host named it."""
        kind = self._kinds.setdefault((host, topic.kind, topic.method), _Kind())
        now, wait = self._timer(), max(1, PACE if retry_after is None else retry_after)
        rest = kind.names[topic.name] = _Rest(now + min(wait, LONGEST), now + wait)
        if sum(now < each.ends for each in kind.names.values()) >= _MANY:
            kind.all = _Rest(rest.ends, rest.wanted)

    def answered(self, host: URL, topic: Topic) -> None:
        """Note any other answer: the limit of this name is over, and so is that of its kind."""
        kind = self._kinds.get((host, topic.kind, topic.method))
        if kind is not None:
            kind.all = None
            kind.names.pop(topic.name, None)
            if not kind.names:
                del self._kinds[host, topic.kind, topic.method]
