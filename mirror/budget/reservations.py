"""Reservations: pulls reserved for manifests that clients know of and will request next. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import takewhile

from mirror.budget.pull_request import PullRequest
from mirror.oci.digest import Digest
from mirror.oci.names import Reference

RESERVED_FOR = 30.0  # seconds for a client to request a manifest named by a HEAD or an index
_REMEMBERED = 10_000  # manifests that a HEAD named, so that each is expected just once


@dataclass(frozen=True, slots=True)
class _Reservation:
    """A pull for the first manifest of `missing` to be requested; `party` paid for the index."""

    until: float
    missing: frozenset[Digest]
    party: str | None


class Reservations:
    """The pulls reserved in one account. Times are those of its window."""

    def __init__(self) -> None:
        self._after_indexes: dict[Reference, _Reservation] = {}  # by index
        self._after_heads: dict[str, tuple[float, int]] = {}  # until when, and cost; oldest first

    def __repr__(self) -> str:
        indexes, heads = len(self._after_indexes), len(self._after_heads)
        return f"<Reservations: after {indexes} indexes, and {heads} manifests of HEADs>"

    def after_index(
        self, index: PullRequest, platforms: Collection[Digest], party: str | None, now: float
    ) -> None:
        """Reserve a pull for one of the platforms; the share of `party` paid for their index."""
        if platforms:
            self._after_indexes[index.target] = _Reservation(
                now + RESERVED_FOR, frozenset(platforms), party
            )

    def after_head(self, request: PullRequest, now: float) -> None:
        """Reserve the cost of a manifest, once for all HEADs that name it."""
        self._after_heads.setdefault(request.target, (now + RESERVED_FOR, request.cost))
        if len(self._after_heads) > _REMEMBERED:
            del self._after_heads[next(iter(self._after_heads))]

    def fulfil(self, reference: str) -> None:
        """Record that a pull begins: its reservation ends."""
        self._after_heads.pop(reference, None)
        for index, reservation in [*self._after_indexes.items()]:
            if reference in reservation.missing:
                del self._after_indexes[index]

    def reserved(self, reference: str, now: float) -> int:
        """Return the pulls reserved for platforms of indexes other than the reference's own."""
        return sum(1 for _ in self._to_others(reference, now))

    def reserved_by(self, party: str, reference: str, now: float) -> int:
        """Return the pulls among `reserved` that belong to indexes which this party paid for."""
        return sum(reservation.party == party for reservation in self._to_others(reference, now))

    def reserved_after_heads(self, reference: str, most: int, now: float) -> int:
        """Return the cost of all other manifests that HEADs named, in pulls, up to `most`."""
        total = 0
        newest = takewhile(lambda item: item[1][0] > now, reversed(self._after_heads.items()))
        for told, (_, cost) in newest:
            total += cost if told != reference else 0
            if total >= most:
                return most
        return total

    def _to_others(self, reference: str, now: float) -> Iterator[_Reservation]:
        for index, reservation in [*self._after_indexes.items()]:
            if reservation.until <= now:
                del self._after_indexes[index]
            elif reference not in reservation.missing:
                yield reservation
