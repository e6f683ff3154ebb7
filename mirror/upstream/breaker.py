"""The breaker: whether a host that failed of late is worth asking."""

from __future__ import annotations

_TOO_MANY = 5  # failures in a row, after which nobody is made to wait for one more
_SILENCE = 2  # failures that one silence counts as: it costs its asker so much more
_FIRST_PROBE = 0.5  # seconds
_LAST_PROBE = 15.0


class Breaker:
    """Counts failures in a row. It closes again at the first success, of whoever asks."""

    def __init__(self) -> None:
        self._failures = 0
        self._pause = _FIRST_PROBE

    def __repr__(self) -> str:
        return f"<Breaker: {'open' if self.open else 'closed'} after {self._failures} failures>"

    @property
    def open(self) -> bool:
        """Whether nobody should ask."""
        return self._failures >= _TOO_MANY

    def succeeded(self) -> None:
        """Note an answer, whatever it says."""
        self._failures = 0
        self._pause = _FIRST_PROBE

    def failed(self, *, silent: bool) -> bool:
        """Note that no answer came; returns whether this opens it."""
        before = self.open
        self._failures += _SILENCE if silent else 1
        return self.open and not before

    def pause(self) -> float:
        """Return how long to wait before the next probe, in seconds; twice as long each time."""
        pause, self._pause = self._pause, min(2 * self._pause, _LAST_PROBE)
        return pause

    @property
    def retry_after(self) -> int:
        """Seconds after which asking again may be of use."""
        return max(1, round(self._pause))
