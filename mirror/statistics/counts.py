"""Counts of the current minute, of one upstream: plain numbers, which each request adds to."""

from __future__ import annotations

from mirror.storage.metadata.rows import Figures


class Counts:
    """The counts since the last `take`; `spared` and `ran` are in seconds.

    `manifest_wait` and `blob_wait` are the seconds until upstream's answer begins, and `per_byte`
    is the seconds for a byte of it: a hit spares that time.
    """

    __slots__ = (
        "asked",
        "blob_wait",
        "counted",
        "errors",
        "evicted",
        "hits",
        "manifest_wait",
        "per_byte",
        "ran",
        "received",
        "requests",
        "sent",
        "sent_from_cache",
        "spared",
        "stale",
        "upstream_failures",
        "upstream_requests",
    )

    def __init__(self) -> None:
        self.manifest_wait = self.blob_wait = self.per_byte = 0.0
        self._clear()

    def __repr__(self) -> str:
        return f"<Counts: {self.requests} requests>"

    def _clear(self) -> None:
        self.requests = self.hits = self.stale = self.errors = 0
        self.sent = self.sent_from_cache = 0
        self.asked = self.counted = 0
        self.spared = self.ran = 0.0
        self.upstream_requests = self.upstream_failures = self.received = 0
        self.evicted = 0

    def figures(self) -> Figures:
        """Return the counts so far."""
        return Figures(
            requests=self.requests,
            hits=self.hits,
            stale=self.stale,
            errors=self.errors,
            sent=self.sent,
            sent_from_cache=self.sent_from_cache,
            asked=self.asked,
            counted=self.counted,
            spared=int(self.spared * 1000),
            upstream_requests=self.upstream_requests,
            upstream_failures=self.upstream_failures,
            received=self.received,
            evicted=self.evicted,
            ran=round(self.ran),
        )

    def take(self) -> Figures:
        """Return the counts so far, and begin anew."""
        figures = self.figures()
        self._clear()
        return figures

    def add(self, kind: str, outcome: str, sent: int, seconds: float) -> None:
        """Count an answered request for a manifest or a blob; `sent` in bytes.

        A stale answer spares no wait: upstream would have given none.
        """
        self.requests += 1
        if outcome in ("hit", "revalidated"):
            self.hits += 1
            self.sent += sent
            self.sent_from_cache += sent
            wait = self.manifest_wait if kind == "manifest" else self.blob_wait
            spared = wait + sent * self.per_byte - seconds
            if spared > 0:
                self.spared += spared
        elif outcome == "miss":
            self.sent += sent
        elif outcome == "stale":
            self.hits += 1
            self.stale += 1
            self.sent += sent
            self.sent_from_cache += sent
        else:
            self.errors += 1
