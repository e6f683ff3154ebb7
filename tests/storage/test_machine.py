"""Books, files and bound agree after any operations on the store, in any order, and any crash."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from mirror.oci import manifest, media
from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.oci.names import Repository
from mirror.storage.blobs.files import BlobFiles
from mirror.storage.blobs.filesystem import open_filesystem
from mirror.storage.catalog import charged
from mirror.storage.errors import NoRoom
from mirror.storage.metadata.sqlite.store import open_sqlite
from mirror.storage.partial_lease import PartialLease
from mirror.storage.startup import open_store
from mirror.storage.store import Store
from mirror.storage.stored_blob import StoredBlob

T = TypeVar("T")
KIBIBYTE = 1024
LIMITS = (1100 * KIBIBYTE, 1400 * KIBIBYTE)  # some 350 and 650 KiB beside the index and its log
SIZES = (0, 1, 4096, 4097, 60_000, 150_000, 250_000, 2_000_000)
REPOSITORIES = tuple(Repository("docker.io", f"library/{name}") for name in "ab")
_EPOCH = 10**9  # nanoseconds: earlier than the time of any file of the store


def _content(number: int, size: int) -> bytes:
    return random.Random(number).randbytes(size)


def _manifest(children: tuple[Digest, ...]) -> Manifest:
    layers = [{"digest": child, "size": 1, "mediaType": "x"} for child in children]
    body = json.dumps({"mediaType": media.OCI_MANIFEST, "layers": layers}).encode()
    return manifest.read(body, Digest.of(body), media.OCI_MANIFEST)


BLOBS = {Digest.of(body): body for body in map(_content, range(len(SIZES)), SIZES)}
MANIFESTS = [_manifest(tuple(BLOBS)[start : start + 3]) for start in range(2)]
CONTENT = BLOBS | {found.descriptor.digest: found.body for found in MANIFESTS}

_any_blob = st.sampled_from(list(BLOBS))
_any_content = st.sampled_from(list(CONTENT))
_any_manifest = st.sampled_from(MANIFESTS)
_any_repository = st.sampled_from(REPOSITORIES)
_which = st.integers(0, 5)


@dataclass
class Reading:
    """A stored blob that a client has open."""

    digest: Digest
    blob: StoredBlob


class Left(NamedTuple):
    """The state that one life of the store leaves to the next; partials by their size."""

    kept: set[Digest]
    partials: dict[Digest, int]


def without(sizes: dict[Digest, int], digest: Digest) -> dict[Digest, int]:
    """Return the sizes without the one of a digest."""
    return {each: size for each, size in sizes.items() if each != digest}


class StoreMachine(RuleBasedStateMachine):
    """Drives a store as fetches, readers, maintenance, an operator and a failing machine do.

    `spoilt` are files that were altered behind the store's back and not found out yet.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="mirror-store-"))
        self.lives = 0
        self.runner = asyncio.Runner()
        self.fetching: dict[Digest, PartialLease] = {}
        self.reading: list[Reading] = []
        self.promises: list[int] = []
        self.spoilt: set[Digest] = set()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end."""
        return self.runner.run(work)

    @property
    def root(self) -> Path:
        """The data folder of this life."""
        return self.folder / str(self.lives)

    @initialize(limit=st.sampled_from(LIMITS))
    def begin(self, limit: int) -> None:
        self.store = self.open(limit)
        for digest in BLOBS:
            self.pull(digest)

    def open(self, limit: int) -> Store:
        """Open the data folder."""
        self.root.mkdir(exist_ok=True)
        return self.do(open_store(self.root, limit, open_filesystem, open_sqlite))

    def teardown(self) -> None:
        """Close the store, and remove its folder."""
        if hasattr(self, "store"):
            self.stop()
            self.do(self.store.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    def stop(self) -> None:
        """End fetches and readers, as a daemon does before it closes the store."""
        for digest in list(self.fetching):
            self.end_fetch(digest)
        for reading in self.reading:
            self.end_read(reading)
        self.reading.clear()
        while self.promises:
            self.store.quota.release(self.promises.pop())

    def kept(self) -> list[Digest]:
        """The stored digests in a stable order, the spoilt and the read ones first."""
        read = {reading.digest for reading in self.reading}
        return sorted(
            self.store.catalog, key=lambda each: (each not in self.spoilt, each not in read, each)
        )

    # Room

    @rule(size=st.sampled_from(SIZES))
    def reserve(self, size: int) -> None:
        before = self.store.accounting.taken()
        try:
            self.promises.append(self.do(self.store.quota.reserve(size)))
        except NoRoom:
            assert self.store.accounting.taken() == before
        else:
            assert self.promises[-1] == charged(size)

    @precondition(lambda self: self.promises)
    @rule()
    def release(self) -> None:
        self.store.quota.release(self.promises.pop())

    # Fetching

    @rule(digest=_any_blob)
    def fetch(self, digest: Digest) -> None:
        """Resume the partial of an earlier fetch."""
        if digest in self.fetching or self.store.catalog.get(digest) is not None:
            return
        left = self.store.accounting.idle_partials.get(digest, 0)
        lease = self.store.lease(digest)
        try:
            self.do(lease.resume())
            partial = self.do(lease.open())
        except NoRoom:
            self.do(lease.keep())
            assert self.store.accounting.idle_partials.get(digest, 0) == left
            return
        self.fetching[digest] = lease
        assert partial.written == partial.hashed == left
        assert partial.proven == (BLOBS[digest][:left] == BLOBS[digest])

    @rule(digest=_any_blob)
    def pull(self, digest: Digest) -> None:
        """Fetch a blob to its end at once."""
        self.fetch(digest)
        if digest in self.fetching:
            self.receive(list(self.fetching).index(digest), None)

    @precondition(lambda self: self.fetching)
    @rule(which=_which, part=st.sampled_from([4000, 50_000, None, None]))
    def receive(self, which: int, part: int | None) -> None:
        """Write the next bytes; a complete blob is proven and published."""
        digest = list(self.fetching)[which % len(self.fetching)]
        lease, body = self.fetching[digest], BLOBS[digest]
        partial = self.do(lease.open())
        end = len(body) if part is None else min(partial.written + part, len(body))
        try:
            self.do(lease.reserve(end))
        except NoRoom:
            self.end_fetch(digest)
            return
        self.do(partial.hash([body[partial.hashed : end]]))
        self.do(partial.append([body[partial.written : end]]))
        if end == len(body):
            self.publish(digest)

    def publish(self, digest: Digest) -> None:
        lease = self.fetching.pop(digest)
        self.do(lease.commit(REPOSITORIES[0]))
        lease.close()
        self.spoilt.discard(digest)
        assert self.store.catalog.belongs(digest, REPOSITORIES[0])

    @precondition(lambda self: self.fetching)
    @rule(which=_which)
    def discard(self, which: int) -> None:
        """Discard a partial that proved to be wrong."""
        lease = self.fetching.pop(list(self.fetching)[which % len(self.fetching)])
        self.do(lease.discard())
        lease.close()

    @precondition(lambda self: self.fetching)
    @rule(which=_which)
    def abandon(self, which: int) -> None:
        self.end_fetch(list(self.fetching)[which % len(self.fetching)])

    def end_fetch(self, digest: Digest) -> None:
        """Leave a partial for the next fetch, as a fetch that fails or is given up does."""
        lease = self.fetching.pop(digest)
        written = lease.written
        assert self.do(lease.keep()) == written
        lease.close()

    # Keeping

    @rule(found=_any_manifest, repository=_any_repository)
    def keep_manifest(self, found: Manifest, repository: Repository) -> None:
        if self.do(self.store.keep_manifest(found, repository)):
            self.spoilt.discard(found.descriptor.digest)
            assert self.store.catalog.belongs(found.descriptor.digest, repository)
            needs = self.store.catalog.view().needs(repository)
            kept = [child for child in found.children if self.store.catalog.get(child)]
            assert needs.issuperset(kept)

    @rule(digest=_any_content, repository=_any_repository)
    def link(self, digest: Digest, repository: Repository) -> None:
        self.store.accounting.link(digest, repository)

    @rule(digest=_any_content, repository=_any_repository)
    def unlink(self, digest: Digest, repository: Repository) -> None:
        self.store.accounting.unlink(digest, repository)

    # Reading

    @precondition(lambda self: len(self.store.catalog) > 0)
    @rule(which=_which, stay=st.booleans())
    def read(self, which: int, *, stay: bool) -> None:
        """A right blob is served; a wrong one is found out and set aside."""
        digest = self.kept()[which % len(self.store.catalog)]
        blob = self.do(self.store.open(digest))
        assert (blob is None) == (digest in self.spoilt)
        if blob is None:
            self.spoilt.discard(digest)
            assert self.store.catalog.get(digest) is None
            assert not BlobFiles(self.store.root).path(digest).exists()
            return
        self.reading.append(Reading(digest, blob))
        if not stay:
            self.end_read(self.reading.pop())

    @precondition(lambda self: self.reading)
    @rule(which=_which)
    def finish(self, which: int) -> None:
        self.end_read(self.reading.pop(which % len(self.reading)))

    def end_read(self, reading: Reading) -> None:
        """Read to the end: the bytes are right, even of a blob that was replaced meanwhile."""
        assert self.do(reading.blob.reader.read(0, 1 << 22)) == CONTENT[reading.digest]
        reading.blob.close()

    # Maintenance

    @rule()
    def write_behind(self) -> None:
        """After a flush the index agrees with the catalogue."""
        self.store.accounting.uses.date()
        self.do(self.store.index.flush())
        self.do(self.store.trim())
        self.do(self.store.index.flush())
        rows = self.do(self.store.index.blobs())
        assert {row.digest: (row.size, row.media_type, row.changed_at) for row in rows} == {
            digest: (entry.size, entry.media_type, entry.changed_at)
            for digest in self.store.catalog
            if (entry := self.store.catalog.get(digest))
        }
        assert self.do(self.links()) == self.known_links()

    async def links(self) -> set[tuple[str, Repository]]:
        """The links of the index."""
        return {(row.digest, row.repository) for row in await self.store.index.links()}

    def known_links(self) -> set[tuple[str, Repository]]:
        """The links of the catalogue."""
        return {
            (digest, repository)
            for digest in self.store.catalog
            if (entry := self.store.catalog.get(digest))
            for repository in entry.links
        }

    @rule(count=st.integers(1, 2))
    def remove(self, count: int) -> None:
        digests = self.kept()[:count]
        before = self.store.catalog.bytes
        assert self.do(self.store.quota.remove(digests)) == before - self.store.catalog.bytes
        assert not any(self.store.catalog.get(digest) for digest in digests)

    @rule(digests=st.sets(_any_blob, max_size=3))
    def remove_partials(self, digests: set[Digest]) -> None:
        idle = {digest for digest in digests if digest in self.store.accounting.idle_partials}
        taken = sum(charged(self.store.accounting.idle_partials[digest]) for digest in idle)
        assert self.do(self.store.quota.remove_partials(digests)) == (len(idle), taken)

    @rule(digest=_any_content)
    def collect(self, digest: Digest) -> None:
        """Files that the catalogue does not know are removed, and no other files."""
        if self.store.catalog.get(digest) is None:
            BlobFiles(self.store.root).write_whole(digest, b"stray")
        sizes = {found.digest: found.size for found in BlobFiles(self.store.root).scan()}
        strays = sizes.keys() - set(self.store.catalog)
        assert self.do(self.store.quota.remove_orphans(sizes))[0] == len(strays)

    # Changes behind the store's back

    @precondition(lambda self: len(self.store.catalog) > 0)
    @rule(which=_which, how=st.sampled_from(["alter", "cut", "delete"]))
    def spoil(self, which: int, how: str) -> None:
        digest = self.kept()[which % len(self.store.catalog)]
        path = BlobFiles(self.store.root).path(digest)
        if any(reading.digest == digest for reading in self.reading) or digest in self.spoilt:
            return
        if how == "delete" or not CONTENT[digest]:
            path.unlink()
        elif how == "cut":
            os.truncate(path, len(CONTENT[digest]) // 2)
        else:
            path.write_bytes(bytes(byte ^ 1 for byte in CONTENT[digest]))
            os.utime(path, ns=(_EPOCH, _EPOCH))
        self.spoilt.add(digest)

    # Ends

    @rule(limit=st.sampled_from(LIMITS))
    def restart(self, limit: int) -> None:
        """A clean restart loses no content, except for the room that a lower bound takes."""
        self.stop()
        left, links = self.left(), self.known_links()
        self.do(self.store.close())
        self.store = self.open(limit)
        self.has_begun_again(left)
        assert self.known_links() == {link for link in links if link[0] in set(self.store.catalog)}

    @rule(limit=st.sampled_from(LIMITS), named=st.booleans())
    def crash(self, limit: int, *, named: bool) -> None:
        """Copy the files as `kill -9` would leave them, with the log of the index.

        `named`: complete fetches had renamed, but not entered, their blobs.
        """
        left = self.left()
        for digest, lease in self.fetching.items():
            if named and lease.written == len(BLOBS[digest]):
                self.do(self.do(lease.open()).commit())
                left = Left(left.kept | {digest}, without(left.partials, digest))
        shutil.copytree(self.root, self.folder / str(self.lives + 1))  # times of the files included
        self.stop()
        self.do(self.store.close())
        shutil.rmtree(self.root)
        self.lives += 1
        self.store = self.open(limit)
        self.has_begun_again(left)

    def left(self) -> Left:
        """The stored content, and the partials of fetches and of the books, now."""
        written = {digest: each.written for digest, each in self.fetching.items()}
        return Left(set(self.store.catalog), {**self.store.accounting.idle_partials, **written})

    def has_begun_again(self, left: Left) -> None:
        """Check that whole content is stored, partials can be resumed, and there is no more."""
        here, partials = set(self.store.catalog), self.store.accounting.idle_partials
        assert here <= left.kept
        assert partials.items() <= left.partials.items()
        assert set(self.store.altered) <= self.spoilt
        if not self.store.accounting.evicted:
            assert left.kept - here <= self.spoilt
        if partials != left.partials:  # only the bound evicts partials, quarantine first
            assert not len(self.store.accounting.quarantine)
        self.spoilt &= here

    # Invariants

    @invariant()
    def the_bound_holds(self) -> None:
        assert self.store.accounting.used <= self.store.accounting.max_size
        taken = sum(charged(path.stat().st_size) for path in self.files_of(""))
        assert taken <= self.store.accounting.max_size

    @invariant()
    def the_books_are_what_the_files_are(self) -> None:
        store = self.store
        blobs = {Digest.parse(f"sha256:{path.name}"): path for path in self.files_of("blobs")}
        assert set(store.catalog) - self.spoilt <= set(blobs) <= set(store.catalog)
        for digest in set(store.catalog) - self.spoilt:
            entry = store.catalog.get(digest)
            assert entry is not None
            assert entry.size == blobs[digest].stat().st_size == len(CONTENT[digest])
        entries = [entry for each in store.catalog if (entry := store.catalog.get(each))]
        taken = store.accounting.taken()
        assert taken.kept == sum(charged(entry.size) for entry in entries)
        promised = sum(lease.reserved for lease in self.fetching.values())
        assert taken.promised == promised + sum(self.promises)
        leaving = {id(reading.blob.entry): reading.blob.entry for reading in self.reading}
        gone = [entry for entry in leaving.values() if entry not in entries]
        assert taken.leaving == sum(charged(entry.size) for entry in gone)
        aside = [charged(path.stat().st_size) for path in self.files_of("quarantine")]
        assert (len(store.accounting.quarantine), taken.quarantine) == (len(aside), sum(aside))

    @invariant()
    def a_partial_is_counted_once(self) -> None:
        store = self.store
        found = {
            Digest.parse(path.name.replace("-", ":")): path.stat().st_size
            for path in self.files_of("partial")
        }
        assert store.accounting.idle_partials.keys().isdisjoint(self.fetching)
        written = {digest: each.written for digest, each in self.fetching.items()}
        assert store.accounting.idle_partials | written == found
        for digest, lease in self.fetching.items():
            assert found[digest] <= lease.reserved

    def files_of(self, folder: str) -> list[Path]:
        """The files below a folder of the data folder."""
        return [path for path in (self.root / folder).rglob("*") if path.is_file()]


TestStore = StoreMachine.TestCase
TestStore.settings = settings(
    max_examples=settings().max_examples // 2,  # half of the profile's: each has many steps
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow],
)
