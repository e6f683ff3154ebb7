"""The circuit breaker: stops requests to a host that failed lately. Pure."""

from __future__ import annotations

import math

from cachetools import LRUCache

from mirror.upstream.backoff import Topic

_TOO_MANY = 5  # failures in a row that open the breaker
_SILENCE = 2  # failures that one timeout counts as: its client waited much longer
_EACH = 2  # maximum per name: a path that always fails says nothing about other paths
_FIRST_PROBE = 0.5  # seconds
_LAST_PROBE = 8.0  # seconds: a recovered host is noticed soon
_NAMES = 64  # remembered per kind of request


class CircuitBreaker:
    """Counts a host's consecutive failures, of connections and of each kind of request separately.

    A failed connection counts for the whole host. A timeout, a connection dropped instead of a
    response and a gateway's 5xx count for the kind and method of the request, and at most twice
    per name. Any response closes the breaker for its kind; an answered probe closes it altogether.
    A failed probe says nothing about paths other than its own, so one request of each kind is let
    through after it.
    """

    def __init__(self) -> None:
        self._lost = 0
        self._kinds: dict[tuple[str, str], LRUCache[str, int]] = {}
        self._pause = _FIRST_PROBE
        self._let_through: set[tuple[str, str]] = set()
        self._due = -math.inf

    def __repr__(self) -> str:
        return f"<CircuitBreaker: {'open' if self.open else 'closed'}, {self._lost} lost>"

    @property
    def open(self) -> bool:
        """Whether any kind of request is blocked."""
        return self.lost or any(map(self._fails, self._kinds.values()))

    @property
    def lost(self) -> bool:
        """Whether all requests are blocked."""
        return self._lost >= _TOO_MANY

    def refuses(self, topic: Topic) -> bool:
        """Whether this request is blocked. One request per kind is let through as a trial."""
        key = topic.kind, topic.method
        failures = self._kinds.get(key)
        if not self.lost and (failures is None or not self._fails(failures)):
            return False
        if key not in self._let_through:
            return True
        self._let_through.remove(key)
        return False

    def try_again(self, topic: Topic, now: float) -> None:
        """Let a due request through, for a host that is not probed.

        `now` is monotonic, in seconds. The pauses are those of probes.
        """
        if self.open and now >= self._due:
            self._due = now + self.pause()
            self._let_through.add((topic.kind, topic.method))

    def let_through(self) -> None:
        """Record that a probe failed, but the host accepts connections: each kind may try once."""
        self._lost = min(self._lost, _TOO_MANY - 1)
        self._let_through = {key for key, names in self._kinds.items() if self._fails(names)}

    def succeeded(self, topic: Topic) -> None:
        """Record a response, with any status."""
        self._lost = 0
        self._pause = _FIRST_PROBE
        self._kinds.pop((topic.kind, topic.method), None)

    def recovered(self) -> None:
        """Record an answered probe. Pauses stay long until a request is answered, too."""
        self._lost = 0
        self._kinds.clear()
        self._let_through.clear()

    def unreachable(self) -> bool:
        """Record a failed connection; returns whether it opens the breaker."""
        before = self.open
        self._lost += 1
        return self.open and not before

    def failed(self, topic: Topic, *, silent: bool) -> bool:
        """Record a missing response, by timeout or not; returns whether it opens the breaker."""
        before = self.open
        failures = self._kinds.setdefault((topic.kind, topic.method), LRUCache(_NAMES))
        count = failures.get(topic.name, 0) + (_SILENCE if silent else 1)
        failures[topic.name] = min(count, _EACH)
        return self.open and not before

    def _fails(self, failures: LRUCache[str, int]) -> bool:
        return sum(failures.values()) >= _TOO_MANY

    def pause(self) -> float:
        """Return the seconds until the next probe; doubles each time."""
        pause, self._pause = self._pause, min(2 * self._pause, _LAST_PROBE)
        return pause

    @property
    def retry_after(self) -> int:
        """Seconds after which another request may succeed."""
        return max(1, round(self._pause))
