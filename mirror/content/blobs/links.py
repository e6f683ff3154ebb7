"""Links: the repositories that a blob is linked to, by upstream's word or by its bytes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial

from cachetools import LRUCache, TTLCache

from mirror.content.blobs.possession import Possession
from mirror.content.refusals import forget
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
from mirror.storage.blobs.protocol import BlobReader
from mirror.storage.entry import Entry
from mirror.storage.store import Store
from mirror.upstream.blob_source import BlobSource
from mirror.util.singleflight import SingleFlight

_MISSING_KEPT = 10_000
_GIVEN_KEPT = 10_000  # stored manifests that upstream served as blobs, too


class BlobLinks:
    """The known links of blobs to repositories; upstream is asked where none is known.

    `missing_ttl` is in seconds. Each answer is remembered for the repository that it was about.
    """

    def __init__(
        self,
        sources: Mapping[str, BlobSource],
        store: Store,
        possession: Possession,
        missing_ttl: float,
    ) -> None:
        self._sources = sources
        self._store = store
        self._possession = possession
        self._sizes: SingleFlight[tuple[Repository, Digest], int | None] = SingleFlight()
        self._looks: SingleFlight[tuple[Repository, Digest], None] = SingleFlight()
        self._missing: TTLCache[tuple[Repository, Digest], str] = TTLCache(
            _MISSING_KEPT, missing_ttl
        )
        self._given: LRUCache[tuple[Repository, Digest], None] = LRUCache(_GIVEN_KEPT)

    def __repr__(self) -> str:
        return f"<BlobLinks: {len(self._sizes)} asked for, {len(self._missing)} missing>"

    async def close(self) -> None:
        """Stop the running questions."""
        await self._sizes.close()
        await self._looks.close()

    def forget_refusals(self, upstream: str) -> None:
        """Forget the blobs that an upstream called missing, so that it is asked again."""
        forget(self._missing, upstream)

    # Known links

    def refuse_missing(self, repository: Repository, digest: Digest) -> None:
        """Raise BlobUnknown if upstream said recently that this repository has no such blob."""
        if message := self._missing.get((repository, digest)):
            raise BlobUnknown(message)

    def known(self, repository: Repository, digest: Digest, entry: Entry) -> bool:
        """Whether stored content is known to be a blob of the repository.

        A manifest is one only if upstream served it as a blob: clients accept a blob as any type.
        """
        if entry.media_type is None:
            return repository in entry.links
        return (repository, digest) in self._given

    def within(self, repository: Repository, digest: Digest) -> bool:
        """Whether a stored blob is of this upstream: it is believed about its repositories."""
        catalog, alone = self._store.catalog, len(self._sources) == 1
        entry = catalog.get(digest)
        is_blob = entry is not None and entry.media_type is None
        return is_blob and catalog.within(digest, repository.upstream, alone=alone)

    def fetched(self, repository: Repository, digest: Digest, *, proven: bool) -> None:
        """Note that upstream serves the blob in this repository, `proven` or under way."""
        self._missing.pop((repository, digest), None)
        entry = self._store.catalog.get(digest)
        if proven and entry is not None and entry.media_type is not None:
            self._given[repository, digest] = None

    # Questions to upstream

    async def confirm(self, repository: Repository, digest: Digest, size: int | None) -> int | None:
        """Ask upstream, once for all clients, whether the repository has a blob; returns its size.

        `size` is the known one, in bytes; None is returned where upstream names none. Raises
        UpstreamMisbehaved where upstream names another, as the answer to a question that was asked
        before the size was known may.
        """
        source = self._sources[repository.upstream]
        try:
            found_size = await self._sizes.share(
                (repository, digest),
                lambda: source.find_blob(repository.name, digest, size),
                may_pass,
            )
        except BlobUnknown as error:
            self._missing[repository, digest] = error.message
            raise
        entry, within = self._store.catalog.get(digest), self.within(repository, digest)
        known = entry.size if entry is not None and within else size
        if known is not None and found_size != known:
            raise UpstreamMisbehaved("upstream names another size of the blob than is known")
        if within:
            self._store.link(digest, repository)
        return found_size

    async def shown(self, repository: Repository, digest: Digest, size: int | None) -> int | None:
        """Ask whether a repository has a blob that is under way for another; returns its size.

        None where upstream names no size, or another than the known one: an error document may come
        under a 200, too.
        """
        with suppress(UpstreamMisbehaved):
            return await self.confirm(repository, digest, size)
        return None

    async def claim(
        self, repository: Repository, digest: Digest, reader: BlobReader, size: int
    ) -> None:
        """Link a blob of another upstream to the repository, by a proof of possession.

        Raises UpstreamMisbehaved where only the whole blob can be the proof.
        """
        source = self._sources[repository.upstream]
        link = partial(self._store.link, digest, repository)
        try:
            await self._possession.show(
                source, repository, digest, reader, size, whole=True, then=link
            )
        except (HostUnreachable, UpstreamMisbehaved):
            raise
        except UpstreamFailure as failure:  # a part that does not arrive leaves a doubt
            raise ContentWrong(failure.message) from failure

    async def refused(self, repository: Repository, digest: Digest, refusal: RegistryError) -> None:
        """Note that upstream refused a fetch in this repository.

        A HEAD is sent as well, as for a stored blob: so the time that a refusal takes does not tell
        whether other repositories have the blob.
        """
        if isinstance(refusal, BlobUnknown):
            self._missing[repository, digest] = refusal.message
        if isinstance(refusal, BlobUnknown | Denied):
            with suppress(RegistryError):
                await self._looks.join((repository, digest), lambda: self._look(repository, digest))

    async def _look(self, repository: Repository, digest: Digest) -> None:
        await self._sources[repository.upstream].head_blob(repository.name, digest)
