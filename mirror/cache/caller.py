"""The caller: who asks, as far as that is known."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from mirror.cache.address import one_client
from mirror.oci.patterns import Patterns

# Who may read what upstream gives to the account, but not to everybody.
Private = Literal["nobody", "authenticated", "everyone"]
NOBODY = ""  # the client of what the mirror asks for itself; no share is its
# No address is one: they begin with a digit, or have a colon.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._@-]{0,63}", re.ASCII)


def is_client_name(text: str) -> bool:
    """Whether a client may be called that: never as an address is."""
    return _NAME.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Caller:
    """An address, and the name of a client that proved to be it; none of one that did not.

    `allow` bounds what it may read, of every upstream; None where nothing does.
    """

    address: str
    name: str | None = None
    allow: Patterns | None = None

    @property
    def client(self) -> str:
        """Return what its part of places is counted by: a host has all addresses of its network."""
        return self.name or one_client(self.address)

    @property
    def party(self) -> str:
        """Return what shares and the ledger know it by."""
        return self.name or self.address
