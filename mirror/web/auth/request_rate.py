"""The limit on the rate of each client's requests, with bursts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from cachetools import LRUCache

from mirror.oci.errors import ClientTooFast

_BURST = 10.0  # seconds' worth of requests allowed at once: an image takes many
_NOTHING = 1e-9  # seconds
_KEPT = 50_000  # clients; a forgotten client starts afresh


class RequestRates:
    """Limits each client to `client_rate` requests per second; 0 is no limit.

    Uses the generic cell rate algorithm (ITU-T I.371): one number is kept per client, the time at
    which all its requests so far would have been due.
    """

    def __init__(self, client_rate: float, timer: Callable[[], float] = time.monotonic) -> None:
        self.client_rate = client_rate
        self._timer = timer
        self._due: LRUCache[str, float] = LRUCache(_KEPT)

    def __repr__(self) -> str:
        return f"<RequestRates: {self.client_rate} requests/s, {len(self._due)} clients>"

    def allows(self, party: str) -> bool:
        """Whether a request now would be within the rate, which is not 0."""
        return self._due_and_wait(party)[1] <= _NOTHING

    def take(self, party: str) -> None:
        """Count a request; raises ClientTooFast."""
        if not self.client_rate:
            return
        due, wait = self._due_and_wait(party)
        if wait > _NOTHING:
            raise ClientTooFast(
                f"this mirror takes {self.client_rate:g} requests a second from one client",
                retry_after=math.ceil(wait),
            )
        self._due[party] = due + 1 / self.client_rate

    def _due_and_wait(self, party: str) -> tuple[float, float]:
        """Return when the requests so far were due, and for how long the next one has to wait."""
        now = self._timer()
        due = max(self._due.get(party, now), now)
        # Even a slow rate allows one request at once.
        return due, due - now - max(_BURST, 1 / self.client_rate) + 1 / self.client_rate
