"""Stored manifests: on the disk, or in memory only if the disk did not take them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sized
from dataclasses import replace

from cachetools import LRUCache

from mirror.content.manifests.tags import Tags
from mirror.content.memory_cache import MemoryCache
from mirror.oci import manifest, media, strict_json
from mirror.oci.digest import Digest
from mirror.oci.manifest import Descriptor, Manifest
from mirror.oci.names import Repository
from mirror.storage.entry import Entry
from mirror.storage.errors import Unavailable
from mirror.storage.store import Store
from mirror.util.singleflight import SingleFlight

_log = logging.getLogger(__name__)

_LOOSE = 16 * 1024 * 1024  # bytes of manifests that the disk would not take
_LARGE = 16 * 1024 * 1024  # bytes of the last read manifests that are too large for `MemoryCache`


class StoredManifests:
    """Finds and stores manifests. The number of `upstreams` may change at any time."""

    def __init__(self, store: Store, tags: Tags, memory: MemoryCache, upstreams: Sized) -> None:
        self._store = store
        self._tags = tags
        self._memory = memory
        self._upstreams = upstreams
        self._loose: LRUCache[tuple[Repository, Digest], Manifest] = LRUCache(
            _LOOSE, getsizeof=lambda loose: loose.descriptor.size
        )
        self._loading: SingleFlight[Digest, bytes | None] = SingleFlight()
        self._large: LRUCache[Digest, bytes] = LRUCache(_LARGE, getsizeof=len)

    async def close(self) -> None:
        """Stop the running reads."""
        await self._loading.close()

    def __repr__(self) -> str:
        return f"<StoredManifests: {len(self._loose)} in memory only>"

    def peek(self, repository: Repository, digest: Digest) -> tuple[Descriptor, bytes] | None:
        """Return a linked manifest from memory, without I/O; it becomes the last used."""
        body = self._memory.get(digest)
        entry = self._store.catalog.get(digest)
        if body is None or entry is None or repository not in entry.links:
            return None
        media_type = entry.type_for(repository.upstream)
        if media_type is None:
            return None
        self._store.touch(digest)
        return Descriptor(digest, media_type, entry.size), body

    def known(self, repository: Repository, digest: Digest) -> Descriptor | None:
        """Return the descriptor of a stored manifest that is linked to the repository."""
        if loose := self._loose.get((repository, digest)):
            return loose.descriptor
        entry = self._store.catalog.get(digest)
        if entry is None or repository not in entry.links:
            return None
        return _described(repository, digest, entry)

    def within(self, repository: Repository, digest: Digest) -> bool:
        """Whether a stored manifest is of this upstream: it is believed about its repositories."""
        alone = len(self._upstreams) == 1
        return self._store.catalog.within(digest, repository.upstream, alone=alone)

    def shared(self, repository: Repository, digest: Digest) -> Descriptor | None:
        """Return the descriptor of a stored manifest of this upstream."""
        entry = self._store.catalog.get(digest)
        if entry is None or not self.within(repository, digest):
            return None
        return _described(repository, digest, entry)

    async def read(
        self, repository: Repository, digest: Digest, announced_type: str = ""
    ) -> Manifest | None:
        """Return a stored manifest that upstream says this repository holds.

        Type and size are the recorded ones, not those of upstream's last HEAD: its
        `announced_type` matters only where the index was lost. Manifests of other upstreams are
        excluded: a HEAD takes no more than knowledge of a digest.
        """
        if loose := self._loose.get((repository, digest)):
            return loose
        if not self.within(repository, digest):
            return None
        body = self._memory.get(digest) or self._large.get(digest)
        if body is None:
            body = await self._loading.join(digest, lambda: self._load(digest))
        entry = self._store.catalog.get(digest)  # it may have been evicted meanwhile
        if body is None:
            return None
        media_type = entry.type_for(repository.upstream) if entry else None
        if media_type is None:  # its row was lost, its file was not
            found = await strict_json.on_thread(manifest.read, body, digest, announced_type)
            entry = self._store.catalog.get(digest)
        else:
            found = Manifest(Descriptor(digest, media_type, len(body)), body, ())
        if entry is None:
            return found
        if media_type is None:
            self._store.describe(found, repository.upstream)
        self._memory.put(digest, body)
        self._store.link(digest, repository)
        self._store.touch(digest)
        self._tags.arrived(repository, digest)
        return found

    async def _load(self, digest: Digest) -> bytes | None:
        """Read a stored manifest, once for all clients; an altered one is discarded.

        Slow clients of a large one share its bytes.
        """
        with contextlib.suppress(Unavailable):
            body = await self._store.read(digest)
            if body is not None and self._memory.largest < len(body) <= _LARGE:
                self._large[digest] = body
            return body
        return None

    async def keep(self, repository: Repository, pulled: Manifest) -> Manifest:
        """Store a pulled manifest; returns it with its recorded type.

        A manifest that its digest proves in part only is kept in memory: a file is proven by its
        name.
        """
        digest = pulled.descriptor.digest
        entry = self._store.catalog.get(digest)
        if pulled.in_part:
            _log.info("%s has a schema 1 signature, and is kept in memory only", digest)
            self._loose[repository, digest] = pulled
        elif entry is not None and entry.media_type is not None:
            pulled = self._again(repository, pulled, entry)
        elif await self._store.keep_manifest(pulled, repository):
            self._memory.put(digest, pulled.body)
        else:
            self._loose[repository, digest] = pulled
        self._tags.arrived(repository, digest)
        return pulled

    def _again(self, repository: Repository, pulled: Manifest, entry: Entry) -> Manifest:
        """Link a stored manifest to another repository.

        It has the type recorded for this upstream; where there is none, or an unknown one, a known
        type takes its place. The type that another upstream names does not matter.
        """
        found, upstream = pulled.descriptor, repository.upstream
        mine = any(link.upstream == upstream for link in entry.links)
        before = entry.type_for(upstream) if mine else None
        if before is None or (before not in media.KNOWN and found.media_type in media.KNOWN):
            self._store.describe(pulled, upstream)
        else:
            pulled = replace(pulled, descriptor=replace(found, media_type=before))
        self._store.link(found.digest, repository)
        self._store.touch(found.digest)
        self._memory.put(found.digest, pulled.body)
        return pulled


def _described(repository: Repository, digest: Digest, entry: Entry) -> Descriptor | None:
    """Return an entry's descriptor in a repository; None where it is no manifest."""
    media_type = entry.type_for(repository.upstream)
    return None if media_type is None else Descriptor(digest, media_type, entry.size)
