"""Manifests: fresh ones served, stale tags revalidated, new ones fetched once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from cachetools import LRUCache, TTLCache

from mirror.cache.memory import Memory
from mirror.cache.outcome import Outcome
from mirror.cache.tags import Tagged, TagKey, Tags
from mirror.flight import Flights
from mirror.oci import manifest
from mirror.oci.digest import Digest
from mirror.oci.errors import Denied, ManifestUnknown, UpstreamFailure, UpstreamMisbehaved
from mirror.oci.manifest import Descriptor, Manifest
from mirror.oci.names import Reference, Repository, Tag
from mirror.store.store import Store
from mirror.upstream.answers import Ask
from mirror.upstream.registry import Registry

_REFUSED_FOR = 30.0  # seconds in which a tag does not move to a manifest that cannot be had
_LOOSE = 16 * 1024 * 1024  # bytes of manifests that the disk would not take


@dataclass(frozen=True, slots=True)
class Found:
    """A manifest to be served; no body where none was asked for.

    `age` is the seconds since upstream confirmed it, where that matters: for a stale tag.
    """

    descriptor: Descriptor
    body: bytes | None
    outcome: Outcome
    age: int | None = None


class Manifests:
    """Answers for all upstreams. `patience` is how long a stale tag waits for upstream, in s."""

    def __init__(
        self,
        registries: dict[str, Registry],
        store: Store,
        tags: Tags,
        memory: Memory,
        patience: float,
    ) -> None:
        self._registries = registries
        self._store = store
        self._tags = tags
        self._memory = memory
        self._patience = patience
        self._checks: Flights[TagKey, tuple[Tagged, bool] | None] = Flights()
        self._pulls: Flights[tuple[Repository, Reference], Manifest] = Flights()
        self._refused: TTLCache[tuple[Repository, Digest], UpstreamFailure] = TTLCache(
            10_000, _REFUSED_FOR
        )
        self._loose: LRUCache[tuple[Repository, Digest], Manifest] = LRUCache(
            _LOOSE, getsizeof=lambda loose: loose.descriptor.size
        )

    def __repr__(self) -> str:
        return f"<Manifests: {len(self._checks)} checks, {len(self._pulls)} pulls>"

    async def close(self) -> None:
        """Stop what runs."""
        await self._checks.close()
        await self._pulls.close()

    def peek(self, repository: Repository, reference: Reference) -> Found | None:
        """Answer at once from memory, or not at all: the path of every warm pull."""
        digest: Digest
        if isinstance(reference, Digest):
            digest = reference
        else:
            tagged = self._tags.get((repository, reference))
            if tagged is None or not self._tags.confirmed(tagged):
                return None
            digest = tagged.found.digest
        body = self._memory.get(digest)
        entry = self._store.catalogue.get(digest)
        if body is None or entry is None or entry.media_type is None:
            return None
        if not self._store.catalogue.belongs(digest, repository):
            return None
        self._store.touch(digest)
        return Found(Descriptor(digest, entry.media_type, entry.size), body, Outcome.HIT)

    async def get(
        self, repository: Repository, reference: Reference, client: str, *, head: bool
    ) -> Found:
        """Answer from the cache or from upstream.

        With `head` no body is fetched, so that nothing is counted. Raises ManifestUnknown, Denied,
        or UpstreamFailure where the cache cannot help.
        """
        if message := self._tags.missing(repository, reference):
            raise ManifestUnknown(message)
        ask = Ask(client, str(reference))
        try:
            if isinstance(reference, Digest):
                return await self._by_digest(repository, reference, ask, head=head)
            return await self._by_tag(repository, reference, ask, head=head)
        except ManifestUnknown as error:
            self._tags.put_missing(repository, reference, error.message)
            raise

    # By tag

    async def _by_tag(self, repository: Repository, tag: Tag, ask: Ask, *, head: bool) -> Found:
        key = (repository, tag)
        current = await self._current(key)
        if current is None:
            return await self._pull_by_tag(key, ask, head=head)
        tagged, outcome = current
        age = self._tags.age(tagged) if outcome is Outcome.STALE else None
        if head:
            if self._known(repository, tagged.found.digest):
                self._tags.arrived(repository, tagged.found.digest)
            return Found(tagged.found, None, outcome, age)
        body = await self._kept(repository, tagged.found)
        if body is None:
            return await self._pull_tagged(key, tagged, ask)
        return Found(tagged.found, body, outcome, age)

    async def _pull_tagged(self, key: TagKey, tagged: Tagged, ask: Ask) -> Found:
        """Fetch what a tag points at now, or else fall back on what it pointed at before."""
        repository = key[0]
        try:
            pulled = await self._pull(repository, tagged.found.digest, ask)
        except UpstreamFailure:
            before = self._tags.revert(key, tagged)
            body = await self._kept(repository, before.found) if before else None
            if before is None or body is None:
                raise
            return Found(before.found, body, Outcome.STALE, self._tags.age(before))
        return Found(pulled.descriptor, pulled.body, Outcome.MISS)

    async def _pull_by_tag(self, key: TagKey, ask: Ask, *, head: bool) -> Found:
        """Fetch by tag from an upstream that names digests only with a body."""
        if head:
            raise UpstreamMisbehaved("upstream names no digest to a HEAD of this manifest")
        pulled = await self._pull(*key, ask)
        self._tags.put(key, pulled.descriptor)
        self._tags.arrived(key[0], pulled.descriptor.digest)
        return Found(pulled.descriptor, pulled.body, Outcome.MISS)

    async def _current(self, key: TagKey) -> tuple[Tagged, Outcome] | None:
        """Find out what a tag points at; None where upstream tells only with a body.

        There are three cases: upstream said so lately; it says so now; or it cannot say, and what
        it said last has to do.
        """
        tagged = self._tags.get(key)
        if tagged is not None and self._tags.fresh(tagged):
            return tagged, Outcome.HIT if self._tags.confirmed(tagged) else Outcome.STALE
        check = self._checks.task(key, lambda: self._check(key))
        servable = tagged is not None and self._servable(key[0], tagged.found)
        try:
            async with asyncio.timeout(self._patience if servable else None):
                checked = await asyncio.shield(check)
        except (UpstreamFailure, TimeoutError):
            self._tags.postpone(key)
            if tagged is None or not servable:
                raise
            return tagged, Outcome.STALE
        if checked is None:
            return None
        now, confirmed = checked
        return now, Outcome.REVALIDATED if confirmed else Outcome.MISS

    async def _check(self, key: TagKey) -> tuple[Tagged, bool] | None:
        """Ask upstream by HEAD; also tells whether it confirmed what was known."""
        repository, tag = key
        before = self._tags.get(key)
        try:
            found = await self._registry(repository).head_manifest(repository.name, tag)
        except (ManifestUnknown, Denied):
            self._tags.drop(key)
            raise
        if found is None:
            return None
        if before is not None and before.found.digest == found.digest:
            return self._tags.put(key, found), True
        if refusal := self._refused.get((repository, found.digest)):
            raise refusal.again()
        return self._tags.put(key, found), False

    def _servable(self, repository: Repository, found: Descriptor) -> bool:
        """Whether there is something to serve if upstream cannot be asked."""
        loose = (repository, found.digest) in self._loose
        kept = self._store.catalogue.get(found.digest) is not None
        return loose or (kept and self._store.catalogue.belongs(found.digest, repository))

    # By digest

    async def _by_digest(
        self, repository: Repository, digest: Digest, ask: Ask, *, head: bool
    ) -> Found:
        """There are three cases: known to be here; here, but not known to belong here; not here."""
        known = self._known(repository, digest)
        if known is not None:
            found, outcome = known, Outcome.HIT
        elif head or self._store.catalogue.get(digest) is not None:
            found, outcome = await self._confirmed(repository, digest), Outcome.REVALIDATED
        else:
            return await self._pulled(repository, digest, ask)
        if head:
            return Found(found, None, outcome)
        body = await self._kept(repository, found)
        if body is None:
            return await self._pulled(repository, digest, ask)
        return Found(found, body, outcome)

    def _known(self, repository: Repository, digest: Digest) -> Descriptor | None:
        """Return the descriptor of a manifest that is here and belongs here."""
        if loose := self._loose.get((repository, digest)):
            return loose.descriptor
        entry = self._store.catalogue.get(digest)
        if entry is None or entry.media_type is None:
            return None
        if not self._store.catalogue.belongs(digest, repository):
            return None
        return Descriptor(digest, entry.media_type, entry.size)

    async def _confirmed(self, repository: Repository, digest: Digest) -> Descriptor:
        """Ask upstream, which counts no HEAD, whether the repository has this manifest."""
        found = await self._registry(repository).head_manifest(repository.name, digest)
        if found is None or found.digest != digest:
            raise UpstreamMisbehaved("upstream names no digest, or another, to a HEAD by digest")
        return found

    async def _pulled(self, repository: Repository, digest: Digest, ask: Ask) -> Found:
        pulled = await self._pull(repository, digest, ask)
        return Found(pulled.descriptor, pulled.body, Outcome.MISS)

    # Bodies

    async def _kept(self, repository: Repository, found: Descriptor) -> bytes | None:
        """Return the body that is kept of what upstream says this repository holds."""
        if loose := self._loose.get((repository, found.digest)):
            return loose.body
        entry = self._store.catalogue.get(found.digest)
        if entry is None:
            return None
        body = self._memory.get(found.digest) or await self._load(found.digest)
        if body is None:
            return None
        if entry.media_type is None:  # its row was lost, its file was not
            self._store.describe(manifest.read(body, found.digest, found.media_type))
        self._memory.put(found.digest, body)
        self._store.link(found.digest, repository)
        if self._store.catalogue.get(found.digest) is not None:
            self._store.touch(found.digest)
        self._tags.arrived(repository, found.digest)
        return body

    async def _load(self, digest: Digest) -> bytes | None:
        """Read a kept manifest; one that was altered or lost on the disk is discarded."""
        try:
            body = await self._store.read(digest)
        except OSError:
            body = b""
        if digest.proves(body):
            return body
        await self._store.discard(digest)
        return None

    async def _pull(self, repository: Repository, reference: Reference, ask: Ask) -> Manifest:
        """GET a manifest, once for all who want it: this is what upstream counts."""
        return await self._pulls.join(
            (repository, reference), lambda: self._fetch(repository, reference, ask)
        )

    async def _fetch(self, repository: Repository, reference: Reference, ask: Ask) -> Manifest:
        registry = self._registry(repository)
        try:
            pulled = await registry.get_manifest(repository.name, reference, ask)
        except UpstreamFailure as failure:
            if isinstance(reference, Digest):
                self._refused[repository, reference] = failure
            raise
        if await self._store.keep_manifest(pulled, repository):
            self._memory.put(pulled.descriptor.digest, pulled.body)
        else:
            self._loose[repository, pulled.descriptor.digest] = pulled
        self._tags.arrived(repository, pulled.descriptor.digest)
        return pulled

    def _registry(self, repository: Repository) -> Registry:
        return self._registries[repository.upstream]
