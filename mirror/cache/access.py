"""Access: which repositories may be read through the mirror, and by whom."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

from cachetools import Cache, LRUCache

from mirror.cache.caller import Caller
from mirror.cache.manifests import within
from mirror.flight import Flights
from mirror.oci.errors import NotAllowed, UpstreamFailure
from mirror.oci.names import Repository
from mirror.oci.patterns import Patterns
from mirror.store.index import Index

Private = Literal["nobody", "authenticated", "everyone"]

PUBLIC_FOR = 86_400.0  # seconds that upstream's word lasts: for so long what it hides is shown
PRIVATE_FOR = 3_600.0  # seconds; for so long what it shows now stays hidden
_PAUSE = 5.0  # seconds in which an upstream that fails is not asked about a repository again
_KEPT = 20_000  # repositories; the least recently asked for go first


class Anyone(Protocol):
    """An upstream as it is to those without an account; see `Registry.readable`."""

    async def readable(self, repository: str) -> bool:
        """Ask whether a repository may be read; raises UpstreamFailure."""


class Rules:
    """What is configured of one upstream. `deny` beats `allow`.

    `private` says who may read what upstream does not give to everybody.
    """

    def __init__(self, allow: Patterns, deny: Patterns, private: Private) -> None:
        self.allow = allow
        self.deny = deny
        self.private = private
        self.gives = lru_cache(maxsize=8192)(self._gives)

    def _gives(self, name: str) -> bool:
        """Whether a repository may be read at all."""
        return self.allow.match(name) and not self.deny.match(name)

    def trusts(self, caller: Caller) -> bool:
        """Whether a caller may read what is private, too."""
        if self.private == "authenticated":
            return caller.name is not None
        return self.private == "everyone"


@dataclass(slots=True)
class _Known:
    """What upstream said, when it was asked last and when it is to be asked again.

    Times are of the monotonic clock. It has said nothing yet, and may give it to nobody, where
    `asked` is None.
    """

    public: bool
    asked: float | None
    ask_again: float


class Access:
    """The one door that a request for a repository passes before anything is served, kept or not.

    `anyone` are all upstreams, asked as nobody. Those with `accounts` are asked before anything is
    served; any other gives us only what it gives to everybody, until it denies what it gave: then
    it is asked too, about what `holds` says is kept. `patience` is how long a client waits, in
    seconds, for an upstream whose older word is known. `timer` never steps; `clock` is the one on
    the wall.
    """

    def __init__(
        self,
        rules: Mapping[str, Rules],
        anyone: Mapping[str, Anyone],
        accounts: Collection[str],
        index: Index,
        holds: Callable[[Repository], bool],
        patience: float,
        timer: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rules = rules
        self._anyone = anyone
        self._accounts = accounts
        self._index = index
        index.sources.append(self._tell)
        self._holds = holds
        self._patience = patience
        self._timer = timer
        self._clock = clock
        self._known = _Kept(_KEPT, index)
        # Apart from the others, so that no crowd of names drives one out: it would be open again.
        self._hidden = _Kept(_KEPT, index)
        self._questions: Flights[Repository, bool] = Flights()

    def __repr__(self) -> str:
        known, hidden = len(self._known), len(self._hidden)
        return f"<Access: {known} known, {hidden} hidden, {len(self._questions)} asked for>"

    async def load(self) -> None:
        """Remember what upstreams said before the start; what is old is asked for anew."""
        for upstream, name, public, asked_at in await self._index.publicity():
            if upstream in self._anyone and (upstream in self._accounts or not public):
                repository = Repository(upstream, name)
                asked = self._timer() - max(0.0, self._clock() - asked_at)
                known = _Known(bool(public), asked, asked + _lasts(bool(public)))
                self._table(repository)[repository] = known

    async def close(self) -> None:
        """Stop what runs."""
        await self._questions.close()

    async def admit(self, repository: Repository, caller: Caller) -> None:
        """Let a caller read a repository; raises NotAllowed.

        Upstream is asked at most where it is pulled from with an account, or denied the repository
        to us, and only for callers that may read no more than what is public; what it said is a
        look into a table.
        """
        rules = self._rules[repository.upstream]
        if not rules.gives(repository.name):
            raise NotAllowed(_not_given(repository, rules))
        if caller.allow is not None and not caller.allow.match(repository.name):
            raise NotAllowed(_not_for(caller, repository))
        open_to_all = repository.upstream not in self._accounts and repository not in self._hidden
        if open_to_all or rules.trusts(caller):
            return
        if not await self._is_public(repository):
            raise NotAllowed(_not_public(repository, rules))

    def denied(self, repository: Repository) -> None:
        """Note that upstream denied a repository to us: what it said of it before is void.

        It is not public until upstream says so again, and is asked at the next request. Of one
        that nothing is kept of, nothing could be served.
        """
        table, now = self._table(repository), self._timer()
        known = table.get(repository)
        if known is None and not self._holds(repository):
            return
        if known is None or known.public or now >= known.ask_again:
            table[repository] = _Known(public=False, asked=now - PRIVATE_FOR, ask_again=now)
            self._index.put_publicity(repository, int(self._clock() - PRIVATE_FOR), public=False)

    def _table(self, repository: Repository) -> _Kept:
        return self._known if repository.upstream in self._accounts else self._hidden

    async def _is_public(self, repository: Repository) -> bool:
        known = self._table(repository).get(repository)
        if known is not None and self._timer() < known.ask_again:
            return known.public
        try:
            async with within(None if known is None else self._patience):
                return await self._questions.join(repository, lambda: self._ask(repository))
        except UpstreamFailure:
            return self._fall_back(repository)

    async def _ask(self, repository: Repository) -> bool:
        public = await self._anyone[repository.upstream].readable(repository.name)
        if public and repository.upstream not in self._accounts:
            self._hidden.pop(repository, None)
            self._index.drop_publicity(repository)
            return True
        now = self._timer()
        self._table(repository)[repository] = _Known(public, now, now + _lasts(public))
        self._index.put_publicity(repository, int(self._clock()), public=public)
        return public

    def _fall_back(self, repository: Repository) -> bool:
        """Go by what upstream said last: if it never said anything, it may give it to nobody."""
        pause = self._timer() + _PAUSE
        table = self._table(repository)
        known = table.get(repository)
        if known is None:
            known = table[repository] = _Known(public=False, asked=None, ask_again=pause)
        known.ask_again = max(known.ask_again, pause)
        return known.public

    def _tell(self) -> None:
        """Tell the index all there is: it was lost, and begins anew."""
        now, wall = self._timer(), self._clock()
        for repository, known in (*self._known.peeked(), *self._hidden.peeked()):
            if known.asked is not None:
                asked_at = int(wall - (now - known.asked))
                self._index.put_publicity(repository, asked_at, public=known.public)


class _Kept(LRUCache[Repository, _Known]):
    """The repositories in memory; one that falls out leaves the index too."""

    def __init__(self, maxsize: int, index: Index) -> None:
        super().__init__(maxsize)
        self._index = index

    def peeked(self) -> list[tuple[Repository, _Known]]:
        """Return all without making any the most recently used."""
        return [(key, Cache.__getitem__(self, key)) for key in self]

    def popitem(self) -> tuple[Repository, _Known]:
        """Evict the least recently used."""
        repository, known = super().popitem()
        self._index.drop_publicity(repository)
        return repository, known


def _lasts(public: bool) -> float:
    return PUBLIC_FOR if public else PRIVATE_FOR


def _not_given(repository: Repository, rules: Rules) -> str:
    """Say so; what else is denied is nobody's business who asks."""
    refused = f"this mirror does not give {repository.name} of {repository.upstream}"
    return refused if rules.deny.match(repository.name) else f"{refused}; it gives {rules.allow}"


def _not_for(caller: Caller, repository: Repository) -> str:
    if caller.name is None:
        return f"{repository.name} wants a login to this mirror; without one: {caller.allow}"
    return f"{caller.name} may not read {repository.name}; it may read {caller.allow}"


def _not_public(repository: Repository, rules: Rules) -> str:
    missing = (
        "a login to this mirror is missing"
        if rules.private == "authenticated"
        else "this mirror gives nobody what is private"
    )
    return (
        f"{missing}: {repository.upstream} does not give {repository.name} to everybody, "
        "as far as it could be asked; what is public may be read"
    )
