"""Belonging: which repositories have a blob, by upstream's own word or by its bytes."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import IO

from cachetools import LRUCache, TTLCache

from mirror.cache.possession import Possession
from mirror.cache.refusals import forget
from mirror.flight import Flights
from mirror.oci.digest import Digest
from mirror.oci.errors import (
    BlobUnknown,
    ContentWrong,
    Denied,
    HostUnreachable,
    RegistryError,
    UpstreamFailure,
    UpstreamMisbehaved,
    may_pass,
)
from mirror.oci.names import Repository
from mirror.store.catalogue import Entry
from mirror.store.store import Store
from mirror.upstream.registry import Registry

_MISSING_KEPT = 10_000
_GIVEN_KEPT = 10_000  # kept manifests that upstream gave as blobs, too


class Belonging:
    """What is known of repositories and blobs; asked of upstream where nothing is.

    `missing_ttl` in seconds. Each answer is kept under the repository that it was given for.
    """

    def __init__(
        self,
        registries: dict[str, Registry],
        store: Store,
        possession: Possession,
        missing_ttl: float,
    ) -> None:
        self._registries = registries
        self._store = store
        self._possession = possession
        self._sizes: Flights[tuple[Repository, Digest], int | None] = Flights()
        self._looks: Flights[tuple[Repository, Digest], None] = Flights()
        self._missing: TTLCache[tuple[Repository, Digest], str] = TTLCache(
            _MISSING_KEPT, missing_ttl
        )
        self._given: LRUCache[tuple[Repository, Digest], None] = LRUCache(_GIVEN_KEPT)

    def __repr__(self) -> str:
        return f"<Belonging: {len(self._sizes)} asked for, {len(self._missing)} missing>"

    async def close(self) -> None:
        """Stop what runs."""
        await self._sizes.close()
        await self._looks.close()

    def forget_refusals(self, upstream: str) -> None:
        """Have an upstream be asked again for what it had not."""
        forget(self._missing, upstream)

    # What is known

    def refuse_missing(self, repository: Repository, digest: Digest) -> None:
        """Raise BlobUnknown where upstream said of late that this repository has it not."""
        if message := self._missing.get((repository, digest)):
            raise BlobUnknown(message)

    def known(self, repository: Repository, digest: Digest, entry: Entry) -> bool:
        """Whether the repository was seen to hold what is kept, as a blob.

        A manifest is none: clients that get one from here take it for a blob of any type.
        """
        if entry.media_type is None:
            return repository in entry.links
        return (repository, digest) in self._given

    def within(self, repository: Repository, digest: Digest) -> bool:
        """Whether it is kept and of this upstream, which is believed about where it is."""
        catalogue, alone = self._store.catalogue, len(self._registries) == 1
        entry = catalogue.get(digest)
        is_blob = entry is not None and entry.media_type is None
        return is_blob and catalogue.within(digest, repository.upstream, alone=alone)

    def fetched(self, repository: Repository, digest: Digest, *, proven: bool) -> None:
        """Note that upstream gives it there, `proven` or on its way."""
        self._missing.pop((repository, digest), None)
        entry = self._store.catalogue.get(digest)
        if proven and entry is not None and entry.media_type is not None:
            self._given[repository, digest] = None

    # What is asked

    async def confirm(self, repository: Repository, digest: Digest, size: int | None) -> int | None:
        """Ask upstream, once for all clients, whether the repository has it; returns its size.

        `size` is what is known of it, in bytes; None is returned where upstream does not tell it.
        Raises UpstreamMisbehaved where it tells of another, as an answer that was asked for before
        the size was known may do.
        """
        registry = self._registries[repository.upstream]
        try:
            told = await self._sizes.share(
                (repository, digest),
                lambda: registry.find_blob(repository.name, digest, size),
                may_pass,
            )
        except BlobUnknown as error:
            self._missing[repository, digest] = error.message
            raise
        entry, within = self._store.catalogue.get(digest), self.within(repository, digest)
        known = entry.size if entry is not None and within else size
        if known is not None and told != known:
            raise UpstreamMisbehaved("upstream names another size of the blob than is known")
        if within:
            self._store.books.link(digest, repository)
        return told

    async def shown(self, repository: Repository, digest: Digest, size: int | None) -> int | None:
        """Ask whether a repository has what is on its way for another; returns its size.

        None where upstream does not name the size, or another than the one that is known: an error
        document may come under a 200, too.
        """
        with suppress(UpstreamMisbehaved):
            return await self.confirm(repository, digest, size)
        return None

    async def claim(
        self, repository: Repository, digest: Digest, file: IO[bytes], size: int
    ) -> None:
        """Have what came of another upstream belong to the repository, if this one shows its bytes.

        Raises UpstreamMisbehaved where only the whole can show it.
        """
        registry = self._registries[repository.upstream]
        link = partial(self._store.books.link, digest, repository)
        try:
            await self._possession.show(
                registry, repository, digest, file, size, whole=True, then=link
            )
        except (HostUnreachable, UpstreamMisbehaved):
            raise
        except UpstreamFailure as failure:  # a part that does not come leaves a doubt
            raise ContentWrong(failure.message) from failure

    async def refused(self, repository: Repository, digest: Digest, refusal: RegistryError) -> None:
        """Note that upstream refused a fetch in this very repository.

        It is asked by HEAD as well, as it is for what is kept: the time that a refusal takes tells
        nobody whether others have the blob.
        """
        if isinstance(refusal, BlobUnknown):
            self._missing[repository, digest] = refusal.message
        if isinstance(refusal, BlobUnknown | Denied):
            with suppress(RegistryError):
                await self._looks.join((repository, digest), lambda: self._look(repository, digest))

    async def _look(self, repository: Repository, digest: Digest) -> None:
        await self._registries[repository.upstream].head_blob(repository.name, digest)
