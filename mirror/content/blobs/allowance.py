"""The allowance: how much may be evicted for blobs that are under way, and not proven yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sized

_LEAST = 64 * 1024  # bytes
_AHEAD = 64 * 1024 * 1024  # bytes that are promised beyond the received ones, at most
_ONE = 1 / 8  # of the bound, under way from one of several upstreams, before it spares others
_MOST = 3 / 4  # of the bound, for one of several upstreams, however many bytes have arrived


class Allowance:
    """Room by upstream, in bytes; `limit` returns the bound of the moment.

    To name a length costs an upstream nothing, so a length evicts nothing: room is made for the
    received bytes, and for as many again. If the bytes under way from one of several upstreams
    exceed a share, they evict no recently used content of the others until at least half of the
    blob has arrived. Content of the same upstream may be evicted: otherwise a large layer that a
    busy fleet pulls would be fetched anew each time.
    """

    def __init__(self, limit: Callable[[], int], upstreams: Sized) -> None:
        self._limit = limit
        self._upstreams = upstreams
        self._on_its_way: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Allowance: {dict(self._on_its_way)}>"

    def wanted(self, come: int, size: int | None) -> int:
        """Return the bytes to have room for, when `come` bytes of a blob have arrived."""
        ahead = come + min(max(come, _LEAST), _AHEAD)
        return ahead if size is None else max(come, min(ahead, size))

    def sparing(self, upstream: str, more: int, come: int, size: int | None) -> bool:
        """Whether `more` bytes must spare the recently used content of other upstreams."""
        then = self._on_its_way[upstream] + more
        if then <= self._part(_ONE):
            return False
        half = size is not None and 2 * come >= size
        return not half or then > self._part(_MOST)

    def _part(self, part: float) -> int:
        """Return the bytes for one of several upstreams; a sole upstream may have all."""
        limit = self._limit()
        return limit if len(self._upstreams) == 1 else max(int(limit * part), _AHEAD)

    def add(self, upstream: str, promised: int) -> None:
        """Count bytes under way in, or out if they are negative."""
        self._on_its_way[upstream] += promised
        if not self._on_its_way[upstream]:
            del self._on_its_way[upstream]
