"""The client: its identity, as far as it is known."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from mirror.identity.address import one_client
from mirror.oci.patterns import Patterns

# Which clients may read the repositories that upstream serves to the account only.
Private = Literal["nobody", "authenticated", "everyone"]
MIRROR_ITSELF = ""  # the client of the mirror's own requests; it has no share
# No address matches: they begin with a digit, or have a colon.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._@-]{0,63}", re.ASCII)


def is_client_name(text: str) -> bool:
    """Whether a text may be a client's name: never if it may be an address."""
    return _NAME.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class ClientIdentity:
    """A client's address, and its name once that was authenticated.

    `allow` bounds the repositories that it may read, of every upstream; None where nothing does.
    """

    address: str
    name: str | None = None
    allow: Patterns | None = None

    @property
    def client(self) -> str:
        """Return the key for a client's part of places: a host has all addresses of its network."""
        return self.name or one_client(self.address)

    @property
    def party(self) -> str:
        """Return the key for shares and the ledger."""
        return self.name or self.address
