"""Publicity: the standing of every repository in question, in memory and through restarts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection

from cachetools import Cache, LRUCache

from mirror.cache.standing import PUBLIC_FOR, Standing
from mirror.oci.names import Repository
from mirror.store.index import Index

_NEVER = -1  # in the place of when upstream was asked
_KEPT = 20_000  # repositories; the least recently asked for go first


class Publicity:
    """What upstreams say of who may read their repositories.

    An upstream with one of the `accounts` gives us more than it gives to everybody: its
    repositories are private until it says otherwise. Any other gives us only what it gives to
    everybody: its repositories are public, and only those of which `holds` says that something is
    kept, and which were denied since, have a standing. `timer` never steps; `clock` is the one on
    the wall.
    """

    def __init__(
        self,
        accounts: Collection[str],
        index: Index,
        holds: Callable[[Repository], bool],
        timer: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.now = timer
        self._accounts = accounts
        self._index = index
        index.sources.append(self._tell)
        self._holds = holds
        self._clock = clock
        self._known = _Kept(_KEPT, index, holds)
        # Apart from the others, and never driven out: it would be open again.
        self._denied = _Denied(_KEPT, index, holds)
        self._granted: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Publicity: {len(self._known)} known, {len(self._denied)} denied>"

    async def load(self) -> None:
        """Take up what upstreams said before the start.

        What was held back stays so, and upstream is asked at the first request. A denial that was
        not believed yet is not remembered. A yes of the time when there was an account lasts for
        no longer than it would have: what the account was given since may be private.
        """
        rows = await self._index.publicity()
        for upstream, name, public, asked_at in sorted(rows, key=lambda row: not row[2]):
            repository = Repository(upstream, name)
            self._table(repository)[repository] = self._read(asked_at, public=bool(public))

    def change(self, accounts: Collection[str]) -> None:
        """Have other upstreams know us, as after a restart.

        What upstream said of a repository holds for no longer than it does there, and what was
        asked and not said yet is asked anew.
        """
        before, self._accounts = frozenset(self._accounts), frozenset(accounts)
        for table, left in (
            (self._known, before - self._accounts),
            (self._denied, self._accounts - before),
        ):
            for repository, standing in table.peeked():
                if repository.upstream in left:
                    table.pop(repository)
                    if standing.noted:
                        self._table(repository)[repository] = _remembered(standing)

    def has_account(self, repository: Repository) -> bool:
        """Whether the repository's upstream is pulled from with an account."""
        return repository.upstream in self._accounts

    def open_to_all(self, repository: Repository) -> bool:
        """Whether nothing is to be asked: there is no account, and no denial."""
        return repository.upstream not in self._accounts and repository not in self._denied

    def get(self, repository: Repository) -> Standing:
        """Return a repository's standing, a new one if nothing is known of it."""
        table = self._table(repository)
        standing = table.get(repository)
        if standing is None:
            standing = table[repository] = Standing()
        return standing

    def peek(self, repository: Repository) -> Standing | None:
        """Return what is known of a repository, as if nobody had looked; good on a thread."""
        return self._table(repository).peek(repository)

    def told(self, repository: Repository, granted: bool, *, by_account: bool = False) -> None:
        """Note whether the registry gave us something of a repository, or denied it to us.

        With an account, that it was given says nothing of others. Of a repository of which nothing
        is kept, nothing could be held back. What an account is given, `by_account`, may be on its
        way still when that is taken away.
        """
        if granted and by_account and not self.has_account(repository):
            self._granted_to_former(repository)
            return
        if granted:
            self._granted_to_us(repository)
            return
        table = self._table(repository)
        standing = table.get(repository)
        if standing is None and not self.has_account(repository) and self._holds(repository):
            standing = table[repository] = Standing(public=True)
        if standing is not None:
            standing.suspect(self.now())

    def _granted_to_us(self, repository: Repository) -> None:
        """End a denial, or remember that it is the account which a repository was given to.

        Nobody knows whether others may read that, also once there is no account any more.
        """
        self._granted[repository.upstream] = self.now()
        if (denied := self._denied.get(repository)) is not None:
            denied.given(self.now(), lists=False)
            self._clear(repository)
        elif self.has_account(repository) and not (standing := self.get(repository)).noted:
            self._put(repository, standing)

    def _granted_to_former(self, repository: Repository) -> None:
        """Remember that nobody knows whether others may read what is coming."""
        if repository not in self._denied:
            standing = self._denied[repository] = Standing()
            self._put(repository, standing)

    def granted_since(self, upstream: str, at: float | None) -> bool:
        """Whether upstream gave us something after that.

        Without an account that was of another repository: it would have ended the denial.
        """
        return at is not None and self._granted.get(upstream, -math.inf) > at

    def note(self, repository: Repository, standing: Standing) -> None:
        """Enter what was just said of a repository."""
        given = standing.public and standing.denied_at is None
        if given and not self.has_account(repository):
            self._clear(repository)
        elif self._table(repository).get(repository) is standing:  # nor cleared meanwhile
            self._put(repository, standing)

    def _clear(self, repository: Repository) -> None:
        """Forget that a repository was denied."""
        self._denied.pop(repository, None)
        self._index.drop_publicity(repository)

    def _table(self, repository: Repository) -> _Kept | _Denied:
        return self._known if self.has_account(repository) else self._denied

    def _put(self, repository: Repository, standing: Standing) -> None:
        if self.has_account(repository) or not standing.public or standing.noted:
            asked_at = _NEVER
            if standing.decided is not None:
                asked_at = int(self._clock() - (self.now() - standing.decided))
            self._index.put_publicity(repository, asked_at, public=standing.public)
            standing.noted = True

    def _read(self, asked_at: int, *, public: bool) -> Standing:
        if asked_at == _NEVER:
            return Standing(noted=True)
        age = self._clock() - asked_at
        # Said in the future, by a clock since set back, it is as old as it may be.
        decided = self.now() - (age if age >= 0 else PUBLIC_FOR)
        ask_again = decided + PUBLIC_FOR if public else -math.inf
        return Standing(public, decided, ask_again, noted=True)

    def _tell(self) -> tuple[()]:
        """Tell the index all there is, at once: it was lost, and begins anew."""
        for table in (self._known, self._denied):
            for repository, standing in table.peeked():
                if standing.noted:
                    self._put(repository, standing)
        return ()


def _remembered(standing: Standing) -> Standing:
    """Return what the index would know of a standing."""
    if standing.decided is None:
        return Standing(noted=True)
    ask_again = standing.decided + PUBLIC_FOR if standing.public else -math.inf
    return Standing(standing.public, standing.decided, ask_again, noted=True)


class _Denied(dict[Repository, Standing]):
    """The repositories that were denied where there is no account, for as long as they are held.

    Whatever number an upstream denies: it must not have others' denials forgotten. There are no
    more of them than repositories of which something is kept; others leave when there are many.
    """

    def __init__(self, many: int, index: Index, holds: Callable[[Repository], bool]) -> None:
        super().__init__()
        self._many = self._most = many
        self._index = index
        self._holds = holds

    def __setitem__(self, repository: Repository, standing: Standing) -> None:
        if len(self) >= self._most:
            for each in [each for each in self if not self._holds(each)]:
                del self[each]
                self._index.drop_publicity(each)
            self._most = max(self._many, 2 * len(self))
        super().__setitem__(repository, standing)

    def peek(self, repository: Repository) -> Standing | None:
        """Return one."""
        return self.get(repository)

    def peeked(self) -> list[tuple[Repository, Standing]]:
        """Return all."""
        return [*self.items()]


class _Kept(LRUCache[Repository, Standing]):
    """The repositories in memory; one that falls out leaves the index too.

    But for those of which `holds` says that something is kept: names that somebody makes up must
    not have it forgotten that this may be private.
    """

    def __init__(self, maxsize: int, index: Index, holds: Callable[[Repository], bool]) -> None:
        super().__init__(maxsize)
        self._index = index
        self._holds = holds

    def peek(self, repository: Repository) -> Standing | None:
        """Return one without making it the most recently used."""
        try:
            return Cache.__getitem__(self, repository)
        except KeyError:
            return None

    def peeked(self) -> list[tuple[Repository, Standing]]:
        """Return all without making any the most recently used."""
        return [(key, Cache.__getitem__(self, key)) for key in self]

    def popitem(self) -> tuple[Repository, Standing]:
        """Evict the least recently used."""
        repository, standing = super().popitem()
        if not self._holds(repository):
            self._index.drop_publicity(repository)
        return repository, standing
