"""Publicity: the standings of repositories, in memory and across restarts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection

from mirror.access.standing import PUBLIC_FOR, Standing
from mirror.oci.names import Repository
from mirror.storage.metadata.protocol import PublicityMetadata
from mirror.storage.metadata.rows import PublicityRow
from mirror.util.evicting_cache import EvictingCache

_NEVER = -1  # stands for the time of a question that was never asked
_KEPT = 20_000  # repositories; the least recently used are evicted first


class Publicity:
    """Which repositories are public, by the answers of their upstreams.

    An upstream with one of the `accounts` serves the mirror more than it serves the public: its
    repositories are private until it says otherwise. Any other upstream serves the mirror only
    public content: its repositories are public, and only a repository with stored content
    (`holds`) that was denied since has a standing. `timer` is monotonic; `clock` the wall clock.
    """

    def __init__(
        self,
        accounts: Collection[str],
        index: PublicityMetadata,
        holds: Callable[[Repository], bool],
        timer: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.now = timer
        self._accounts = accounts
        self._index = index
        index.when_lost(self._tell)
        self._holds = holds
        self._clock = clock
        self._known: EvictingCache[Repository, Standing] = EvictingCache(
            _KEPT, on_eviction=self._evicted
        )
        # Separate from the others, and never evicted: the repository would be public again.
        self._denied = _Denied(_KEPT, index, holds)
        self._granted: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Publicity: {len(self._known)} known, {len(self._denied)} denied>"

    async def load(self) -> None:
        """Load the standings of the time before the start.

        A repository that was held back stays so, and upstream is asked at the first request. A
        denial that was not believed yet is not remembered. A yes from the time of an account keeps
        its expiry: content that the account was given since may be private.
        """
        rows = await self._index.publicity()
        for row in sorted(rows, key=lambda row: not row.public):
            self._table(row.repository)[row.repository] = self._read(row)

    def change(self, accounts: Collection[str]) -> None:
        """Change the upstreams that have an account, with the effect of a restart.

        Known answers about a repository keep the expiry that a restart gives them, and questions
        without an answer yet are asked again.
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
        """Whether the mirror has an account at the repository's upstream."""
        return repository.upstream in self._accounts

    def open_to_all(self, repository: Repository) -> bool:
        """Whether no question is due: the upstream has no account, the repository no denial."""
        return repository.upstream not in self._accounts and repository not in self._denied

    def get(self, repository: Repository) -> Standing:
        """Return a repository's standing, a new one if there is none yet."""
        table = self._table(repository)
        standing = table.get(repository)
        if standing is None:
            standing = table[repository] = Standing()
        return standing

    def peek(self, repository: Repository) -> Standing | None:
        """Return a repository's standing, without counting as a use of it; safe on a thread."""
        return self._table(repository).peek(repository)

    def observe(self, repository: Repository, granted: bool, *, by_account: bool = False) -> None:
        """Record that the registry served content of a repository to the mirror, or denied it.

        With an account, served content says nothing about other readers. A repository without
        stored content has nothing to hold back. Content that was served `by_account` may still be
        in transit when the account is removed.
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
        """End a denial, or record that the repository was served to the account.

        Whether other readers may read it is unknown, even after the account is removed.
        """
        self._granted[repository.upstream] = self.now()
        if (denied := self._denied.get(repository)) is not None:
            denied.given(self.now(), lists=False)
            self._clear(repository)
        elif self.has_account(repository) and not (standing := self.get(repository)).noted:
            self._put(repository, standing)

    def _granted_to_former(self, repository: Repository) -> None:
        """Record that content which a former account was served may be private."""
        if repository not in self._denied:
            standing = self._denied[repository] = Standing()
            self._put(repository, standing)

    def granted_since(self, upstream: str, at: float | None) -> bool:
        """Whether upstream served content to the mirror after `at`.

        Without an account it was of another repository: content of this one ends the denial.
        """
        return at is not None and self._granted.get(upstream, -math.inf) > at

    def note(self, repository: Repository, standing: Standing) -> None:
        """Save the standing of a repository after an answer of upstream's."""
        given = standing.public and standing.denied_at is None
        if given and not self.has_account(repository):
            self._clear(repository)
        elif self._table(repository).get(repository) is standing:  # not cleared meanwhile
            self._put(repository, standing)

    def _evicted(self, repository: Repository) -> None:
        """Remove an evicted standing from the index too, unless content of it is stored.

        Requests for made-up names must not erase the record that such a repository may be private.
        """
        if not self._holds(repository):
            self._index.drop_publicity(repository)

    def _clear(self, repository: Repository) -> None:
        """Remove a repository's denial."""
        self._denied.pop(repository, None)
        self._index.drop_publicity(repository)

    def _table(self, repository: Repository) -> EvictingCache[Repository, Standing] | _Denied:
        return self._known if self.has_account(repository) else self._denied

    def _put(self, repository: Repository, standing: Standing) -> None:
        if self.has_account(repository) or not standing.public or standing.noted:
            asked_at = _NEVER
            if standing.decided is not None:
                asked_at = int(self._clock() - (self.now() - standing.decided))
            self._index.put_publicity(PublicityRow(repository, standing.public, asked_at))
            standing.noted = True

    def _read(self, row: PublicityRow) -> Standing:
        if row.asked_at == _NEVER:
            return Standing(noted=True)
        age = self._clock() - row.asked_at
        # An answer from the future (the clock was set back since) gets the greatest age.
        decided = self.now() - (age if age >= 0 else PUBLIC_FOR)
        ask_again = decided + PUBLIC_FOR if row.public else -math.inf
        return Standing(row.public, decided, ask_again, noted=True)

    def _tell(self) -> tuple[()]:
        """Write all standings to the index at once: it was lost, and is rebuilt."""
        for table in (self._known, self._denied):
            for repository, standing in table.peeked():
                if standing.noted:
                    self._put(repository, standing)
        return ()


def _remembered(standing: Standing) -> Standing:
    """Return a standing as the index would restore it."""
    if standing.decided is None:
        return Standing(noted=True)
    ask_again = standing.decided + PUBLIC_FOR if standing.public else -math.inf
    return Standing(standing.public, standing.decided, ask_again, noted=True)


class _Denied(dict[Repository, Standing]):
    """The denied repositories of upstreams without an account, while content of them is stored.

    They are never evicted by their number: an upstream with many denials must not drop those of
    others. Their bound is the number of repositories with stored content; the rest are removed
    when the table is large.
    """

    def __init__(
        self, many: int, index: PublicityMetadata, holds: Callable[[Repository], bool]
    ) -> None:
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
        """Return the standing of a repository."""
        return self.get(repository)

    def peeked(self) -> list[tuple[Repository, Standing]]:
        """Return all standings."""
        return [*self.items()]
