"""The allowance: what may be evicted for blobs on their way, which nobody has proven yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sized

_LEAST = 64 * 1024  # bytes
_AHEAD = 64 * 1024 * 1024  # bytes that are promised beyond what has come, at most
_ONE = 1 / 8  # of the bound, for what one of several has on its way, before it spares others
_MOST = 3 / 4  # of the bound, for one of several upstreams, whatever has come


class Allowance:
    """Room by upstream, in bytes, of which `limit` is all there is at the moment.

    A length that upstream names costs it nothing, so it evicts nothing: room is made for bytes
    that have come, and for as many again. What one of several upstreams has on its way beyond a
    share evicts nothing of the others that was used lately, until at least half of the blob has
    come. Its own may go: whoever pulls a large layer in a busy fleet would otherwise have it
    fetched anew each time.
    """

    def __init__(self, limit: Callable[[], int], upstreams: Sized) -> None:
        self._limit = limit
        self._upstreams = upstreams
        self._on_its_way: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Allowance: {dict(self._on_its_way)}>"

    def wanted(self, come: int, size: int | None) -> int:
        """Return the bytes to have room for, when so many of a blob have come."""
        ahead = come + min(max(come, _LEAST), _AHEAD)
        return ahead if size is None else max(come, min(ahead, size))

    def sparing(self, upstream: str, more: int, come: int, size: int | None) -> bool:
        """Whether `more` bytes for it has to spare what others used lately."""
        then = self._on_its_way[upstream] + more
        if then <= self._part(_ONE):
            return False
        half = size is not None and 2 * come >= size
        return not half or then > self._part(_MOST)

    def _part(self, part: float) -> int:
        """Return what one of several may have; an only one may have all."""
        limit = self._limit()
        return limit if len(self._upstreams) == 1 else max(int(limit * part), _AHEAD)

    def add(self, upstream: str, promised: int) -> None:
        """Count bytes in, or out where there are less than none."""
        self._on_its_way[upstream] += promised
        if not self._on_its_way[upstream]:
            del self._on_its_way[upstream]
