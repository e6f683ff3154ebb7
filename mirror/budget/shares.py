"""Shares: the part of a budget window's pulls that one client, or a network of them, may spend."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from mirror.budget.window import MOST_PULLS
from mirror.identity.address import one_client
from mirror.identity.client import MIRROR_ITSELF, is_client_name
from mirror.identity.share import EACH, Share

Network = IPv4Network | IPv6Network


class Shares:
    """The configured shares, by party.

    Keys are addresses, networks (all of its clients together), names of clients, or `*`: each other
    client for itself, and in IPv6 each other /64, because one host has all addresses of it.
    """

    def __init__(self, shares: Mapping[str, Share] | None = None) -> None:
        self._given = dict(shares or {})
        given = dict(self._given)
        self._each = given.pop(EACH, None)
        self._names = {key: given.pop(key) for key in [*given] if is_client_name(key)}
        networks = {ip_network(key): (key, share) for key, share in given.items()}
        # The most specific first: the first match counts.
        self._networks = sorted(networks.items(), key=lambda item: -item[0].prefixlen)
        self.party = lru_cache(maxsize=4096)(self._party)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shares) and other._given == self._given

    def __hash__(self) -> int:
        return hash(frozenset(self._given.items()))

    def __repr__(self) -> str:
        named = f"{len(self._names)} names, {len(self._networks)} networks"
        return f"<Shares: {named}, {self._each or 'none'} for the others>"

    def _party(self, client: str) -> tuple[str, Share] | None:
        """Return the party that a client belongs to, and its share; `None` if it is not bounded."""
        if client == MIRROR_ITSELF:
            return None
        if client in self._names:
            return client, self._names[client]
        try:
            address = ip_address(client)
        except ValueError:
            return (client, self._each) if self._each else None
        address = getattr(address, "ipv4_mapped", None) or address
        for network, named in self._networks:
            if address.version == network.version and address in network:
                return named
        return (one_client(client), self._each) if self._each else None


class Spending:
    """The pulls that each party of `shares` spent in the window. Times are those of the window.

    Clients are recorded, and not only their parties, because shares may change.
    """

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._runs: Counter[str] = Counter()  # by client
        self._running: Counter[str] = Counter()  # by party
        self._pulls: deque[tuple[float, str, str | None]] = deque()  # client, and its party
        self._used: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Spending of {len(self)} parties>"

    def __len__(self) -> int:
        return len(self._used.keys() | self._running.keys())

    def change(self, shares: Shares) -> None:
        """Change the shares: spent and running pulls are counted again, for the new parties."""
        self._shares = shares
        self._pulls = deque((at, client, self._party(client)) for at, client, _ in self._pulls)
        self._used = Counter(party for _, _, party in self._pulls if party is not None)
        self._running = Counter()
        for client, pulls in self._runs.items():
            _add(self._running, self._party(client), pulls)

    def run(self, client: str, pulls: int) -> None:
        """Record pulls that begin, or, with a negative number, pulls that have ended."""
        _add(self._runs, client, pulls)
        _add(self._running, self._party(client), pulls)

    def count(self, at: float, client: str, length: float) -> None:
        """Record a counted pull; pulls older than `length` seconds are dropped."""
        self._forget(at - length)
        if len(self._pulls) >= MOST_PULLS:
            self._forget(self._pulls[0][0])
        party = self._party(client)
        self._pulls.append((at, client, party))
        _add(self._used, party, 1)

    def _party(self, client: str) -> str | None:
        party = self._shares.party(client)
        return None if party is None else party[0]

    def used(self, party: str, now: float, length: float) -> int:
        """Return a party's pulls of the last `length` seconds, running ones included."""
        self._forget(now - length)
        return self._used[party] + self._running[party]

    def _forget(self, until: float) -> None:
        while self._pulls and self._pulls[0][0] <= until:
            _, _, party = self._pulls.popleft()
            _add(self._used, party, -1)

    def back_in(self, party: str, pulls: int, now: float, length: float) -> float:
        """Return the seconds until `pulls` of a party's pulls have come back."""
        own = [at for at, _, spender in self._pulls if spender == party]
        return own[pulls - 1] + length - now if pulls <= len(own) else length


def _add(counter: Counter[str], name: str | None, pulls: int) -> None:
    """Add pulls to a name's count; without a name nothing is counted."""
    if name is None:
        return
    counter[name] += pulls
    if not counter[name]:
        del counter[name]
