"""Manifest bodies: those that are here, and the pulls that bring the others, each made once."""

from __future__ import annotations

import asyncio

from cachetools import LRUCache, TTLCache

from mirror.cache.memory import Memory
from mirror.cache.tags import Tags
from mirror.flight import Flights
from mirror.oci import manifest
from mirror.oci.digest import Digest
from mirror.oci.errors import ManifestUnfit, UpstreamFailure, UpstreamMisbehaved
from mirror.oci.manifest import Descriptor, Manifest
from mirror.oci.names import Reference, Repository
from mirror.store.errors import says_nothing
from mirror.store.store import Store
from mirror.upstream.answers import Ask
from mirror.upstream.registry import Registry

_REFUSED_FOR = 30.0  # seconds in which a manifest that cannot be had is not counted on
_REFUSED_KEPT = 10_000
_LOOSE = 16 * 1024 * 1024  # bytes of manifests that the disk would not take


class Pulls:
    """What upstream counts happens here only."""

    def __init__(
        self, registries: dict[str, Registry], store: Store, tags: Tags, memory: Memory
    ) -> None:
        self._registries = registries
        self._store = store
        self._tags = tags
        self._memory = memory
        self._running: Flights[tuple[Repository, Reference], Manifest] = Flights()
        self._heads: Flights[tuple[Repository, Digest], Descriptor | None] = Flights()
        self._leaders: dict[Digest, Repository] = {}
        self._refused: TTLCache[tuple[Repository, Reference], UpstreamFailure] = TTLCache(
            _REFUSED_KEPT, _REFUSED_FOR
        )
        self._loose: LRUCache[tuple[Repository, Digest], Manifest] = LRUCache(
            _LOOSE, getsizeof=lambda loose: loose.descriptor.size
        )

    def __repr__(self) -> str:
        return f"<Pulls: {len(self._running)} running>"

    async def close(self) -> None:
        """Stop what runs."""
        await self._running.close()
        await self._heads.close()

    # What is here

    def known(self, repository: Repository, digest: Digest) -> Descriptor | None:
        """Return the descriptor of a manifest that is here and belongs here."""
        if loose := self._loose.get((repository, digest)):
            return loose.descriptor
        entry = self._store.catalogue.get(digest)
        if entry is None or entry.media_type is None:
            return None
        if not self._store.catalogue.belongs(digest, repository):
            return None
        return Descriptor(digest, entry.media_type, entry.size)

    async def kept(self, repository: Repository, found: Descriptor) -> bytes | None:
        """Return the body that is here of what upstream says this repository holds."""
        if loose := self._loose.get((repository, found.digest)):
            return loose.body
        if self._store.catalogue.get(found.digest) is None:
            return None
        body = self._memory.get(found.digest) or await self._load(found.digest)
        entry = self._store.catalogue.get(found.digest)  # it may have been evicted meanwhile
        if body is None or entry is None:
            return body
        if entry.media_type is None:  # its row was lost, its file was not
            self._store.books.describe(manifest.read(body, found.digest, found.media_type))
        self._memory.put(found.digest, body)
        self._store.books.link(found.digest, repository)
        self._store.books.touch(found.digest)
        self._tags.arrived(repository, found.digest)
        return body

    async def _load(self, digest: Digest) -> bytes | None:
        """Read a kept manifest; one that was altered or lost on the disk is discarded."""
        entry = self._store.catalogue.get(digest)
        try:
            body = await self._store.read(digest)
        except OSError as error:
            if says_nothing(error):
                return None
            body = b""
        if digest.proves(body):
            return body
        if self._store.catalogue.get(digest) is entry:  # else another found it, and sooner
            await self._store.discard(digest)
        return None

    # What is not

    async def confirm(self, repository: Repository, digest: Digest) -> Descriptor | None:
        """Ask upstream, which counts no HEAD, for a manifest's descriptor; None if it names none.

        Raises ManifestUnknown, Denied, or UpstreamFailure.
        """
        registry = self._registries[repository.upstream]
        found = await self._heads.join(
            (repository, digest), lambda: registry.head_manifest(repository.name, digest)
        )
        if found is not None and found.digest != digest:
            raise UpstreamMisbehaved(f"upstream answers {found.digest} to a HEAD of {digest}")
        return found

    def refusal(self, repository: Repository, digest: Digest) -> UpstreamFailure | None:
        """Return why this manifest could not be had a moment ago."""
        return self._refused.get((repository, digest))

    async def pull(self, repository: Repository, reference: Reference, ask: Ask) -> Manifest:
        """GET a manifest, once for all who want it: this is what upstream counts.

        Raises ManifestUnknown, Denied, or UpstreamFailure.
        """
        refusal = self._refused.get((repository, reference))
        if isinstance(refusal, ManifestUnfit):  # the same bytes would be as unfit again
            raise refusal.again()
        if isinstance(reference, Digest):
            shared = await self._from_elsewhere(repository, reference)
            if shared is not None:
                return shared
            self._leaders.setdefault(reference, repository)
        return await self._running.join(
            (repository, reference), lambda: self._fetch(repository, reference, ask)
        )

    async def _from_elsewhere(self, repository: Repository, digest: Digest) -> Manifest | None:
        """Wait for a pull of the same digest in another repository; a HEAD is all it costs then."""
        leader = self._leaders.get(digest)
        while leader is not None and leader != repository:
            task = self._running.get((leader, digest))
            if task is None:  # it ended as another of its repository joined it
                del self._leaders[digest]
                return None
            await asyncio.wait([task])
            found = await self.confirm(repository, digest)
            body = await self.kept(repository, found) if found else None
            if found is not None and body is not None:
                return Manifest(found, body, ())
            leader = self._leaders.get(digest)
        return None

    async def _fetch(self, repository: Repository, reference: Reference, ask: Ask) -> Manifest:
        registry = self._registries[repository.upstream]
        try:
            pulled = await registry.get_manifest(repository.name, reference, ask)
            await self._keep(repository, pulled)
        except UpstreamFailure as failure:
            self._refused[repository, reference] = failure
            if isinstance(reference, Digest):
                self._tags.lost(repository, reference)
            raise
        finally:
            if isinstance(reference, Digest) and self._leaders.get(reference) == repository:
                del self._leaders[reference]
        return pulled

    async def _keep(self, repository: Repository, pulled: Manifest) -> None:
        digest = pulled.descriptor.digest
        if await self._store.keep_manifest(pulled, repository):
            self._memory.put(digest, pulled.body)
        else:
            self._loose[repository, digest] = pulled
        self._tags.arrived(repository, digest)
