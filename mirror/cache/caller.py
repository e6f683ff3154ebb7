"""The caller: who asks, as far as that is known."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.oci.patterns import Patterns


@dataclass(frozen=True, slots=True)
class Caller:
    """An address, and the name of a client that proved to be it; none of one that did not.

    `allow` bounds what it may read, of every upstream; None where nothing does.
    """

    address: str
    name: str | None = None
    allow: Patterns | None = None

    @property
    def party(self) -> str:
        """Return what shares and the ledger know it by."""
        return self.name or self.address
