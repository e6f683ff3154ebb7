"""Promises: pulls that are kept for what clients were told of, and will ask for next. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import takewhile

from mirror.oci.digest import Digest

KEPT_FOR = 30.0  # seconds in which a client asks for what a HEAD or an index told it of
_REMEMBERED = 10_000  # manifests that a HEAD told of, so that each is expected just once


@dataclass(frozen=True, slots=True)
class _Promise:
    """One pull for whichever of these manifests is asked for first; `party` paid for the index."""

    until: float
    missing: frozenset[Digest]
    party: str | None


class Promises:
    """What is kept in one account. Times are the window's."""

    def __init__(self) -> None:
        self._platforms: dict[Digest, _Promise] = {}  # by index
        self._expected: dict[str, tuple[float, int]] = {}  # until when, cost; the oldest first

    def __repr__(self) -> str:
        return f"<Promises: {len(self._platforms)} indexes, {len(self._expected)} told by HEADs>"

    def promise(
        self, index: Digest, missing: Collection[Digest], party: str | None, now: float
    ) -> None:
        """Keep a pull for one of the manifests that an index leads to: it is of no use without."""
        if missing:
            self._platforms[index] = _Promise(now + KEPT_FOR, frozenset(missing), party)

    def expect(self, reference: str, cost: int, now: float) -> None:
        """Keep a pull for who is told of a manifest; not anew each time that somebody is."""
        self._expected.setdefault(reference, (now + KEPT_FOR, cost))
        if len(self._expected) > _REMEMBERED:
            del self._expected[next(iter(self._expected))]

    def fulfil(self, reference: str) -> None:
        """Note that a pull begins: nothing more is kept for it."""
        self._expected.pop(reference, None)
        for index, promise in [*self._platforms.items()]:
            if reference in promise.missing:
                del self._platforms[index]

    def kept(self, reference: str, now: float) -> int:
        """Return the pulls that are kept for indexes' platforms, but for one's own."""
        return sum(1 for _ in self._to_others(reference, now))

    def kept_by(self, party: str, reference: str, now: float) -> int:
        """Return those of them that are kept because this party paid for the index."""
        return sum(promise.party == party for promise in self._to_others(reference, now))

    def expected(self, reference: str, most: int, now: float) -> int:
        """Return what it costs, `most` at most, if all others ask for what a HEAD told them of."""
        total = 0
        newest = takewhile(lambda item: item[1][0] > now, reversed(self._expected.items()))
        for told, (_, cost) in newest:
            total += cost if told != reference else 0
            if total >= most:
                return most
        return total

    def _to_others(self, reference: str, now: float) -> Iterator[_Promise]:
        for index, promise in [*self._platforms.items()]:
            if promise.until <= now:
                del self._platforms[index]
            elif reference not in promise.missing:
                yield promise
