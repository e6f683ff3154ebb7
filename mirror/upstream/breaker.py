"""The circuit breaker: whether a host that failed of late is worth asking. Pure."""

from __future__ import annotations

import math

from cachetools import LRUCache

from mirror.upstream.backoff import Topic

_TOO_MANY = 5  # failures in a row, after which no client is made to wait for one more
_SILENCE = 2  # failures that one silence counts as: it costs its client so much more
_EACH = 2  # the most that one name counts: a path that always fails says nothing of the others
_FIRST_PROBE = 0.5  # seconds
_LAST_PROBE = 8.0  # a host that is well again is asked before long
_NAMES = 64  # remembered of each kind of question


class Breaker:
    """Counts a host's failures in a row: of connections, and of each kind of question by itself.

    A connection that cannot be made is the host's own failure. A silence, a connection that is
    dropped instead of an answer, and a gateway's 5xx count for the kind and method of the question,
    and for one name not more than twice. Any answer closes the breaker for its kind; a probe that
    is answered closes it altogether. One that is not says nothing but of the path that it asks
    for, so that a question of each kind is let through after it.
    """

    def __init__(self) -> None:
        self._lost = 0
        self._kinds: dict[tuple[str, str], LRUCache[str, int]] = {}
        self._pause = _FIRST_PROBE
        self._let_through: set[tuple[str, str]] = set()
        self._due = -math.inf

    def __repr__(self) -> str:
        return f"<Breaker: {'open' if self.open else 'closed'} after {self._lost} lost connections>"

    @property
    def open(self) -> bool:
        """Whether there is a kind of question that is not asked."""
        return self.lost or any(map(self._fails, self._kinds.values()))

    @property
    def lost(self) -> bool:
        """Whether nothing at all is asked."""
        return self._lost >= _TOO_MANY

    def refuses(self, topic: Topic) -> bool:
        """Whether a question like this is not asked; one that is let through is the only one."""
        key = topic.kind, topic.method
        failures = self._kinds.get(key)
        if not self.lost and (failures is None or not self._fails(failures)):
            return False
        if key not in self._let_through:
            return True
        self._let_through.remove(key)
        return False

    def try_again(self, topic: Topic, now: float) -> None:
        """Let a question through whose time has come, of a host that nothing probes.

        `now` counts seconds and never steps. The pauses are those of probes.
        """
        if self.open and now >= self._due:
            self._due = now + self.pause()
            self._let_through.add((topic.kind, topic.method))

    def let_through(self) -> None:
        """Note that a probe failed though the host is there: a question of each kind may try."""
        self._lost = min(self._lost, _TOO_MANY - 1)
        self._let_through = {key for key, names in self._kinds.items() if self._fails(names)}

    def succeeded(self, topic: Topic) -> None:
        """Note an answer, whatever it says."""
        self._lost = 0
        self._pause = _FIRST_PROBE
        self._kinds.pop((topic.kind, topic.method), None)

    def recovered(self) -> None:
        """Note that a probe was answered. Pauses stay long until a question is answered, too."""
        self._lost = 0
        self._kinds.clear()
        self._let_through.clear()

    def unreachable(self) -> bool:
        """Note that no connection could be made; returns whether this opens it."""
        before = self.open
        self._lost += 1
        return self.open and not before

    def failed(self, topic: Topic, *, silent: bool) -> bool:
        """Note that no answer came, after a long silence or not; returns whether this opens it."""
        before = self.open
        failures = self._kinds.setdefault((topic.kind, topic.method), LRUCache(_NAMES))
        count = failures.get(topic.name, 0) + (_SILENCE if silent else 1)
        failures[topic.name] = min(count, _EACH)
        return self.open and not before

    def _fails(self, failures: LRUCache[str, int]) -> bool:
        return sum(failures.values()) >= _TOO_MANY

    def pause(self) -> float:
        """Return how long to wait before the next probe, in seconds; twice as long each time."""
        pause, self._pause = self._pause, min(2 * self._pause, _LAST_PROBE)
        return pause

    @property
    def retry_after(self) -> int:
        """Seconds after which asking again may be of use."""
        return max(1, round(self._pause))
