"""Accounting of stored content, used space, and eviction order. Touches no file."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import partial

from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.oci.names import Repository
from mirror.storage.catalog import Catalog, charged
from mirror.storage.entry import Entry
from mirror.storage.errors import NoRoom
from mirror.storage.metadata.protocol import ContentMetadata
from mirror.storage.metadata.rows import BlobRow, ChildRow, LinkRow, TypeRow
from mirror.storage.quarantine import Quarantine
from mirror.storage.sizes import Sizes
from mirror.storage.space import Doomed, Taken
from mirror.storage.uses import Uses

_AT_ONCE = 1024  # victims that are processed in one step of the event loop


class Accounting:
    """Catalogue and index in step, and all accounts that count towards `max_size`, in bytes.

    `overhead` is the index's size on the disk, `promised` the space reserved for writes, in bytes.
    `stuck` are wrong files that the disk failed to move, by size in bytes.
    """

    def __init__(self, index: ContentMetadata, catalog: Catalog, max_size: int) -> None:
        self.index = index
        self.catalog = catalog
        self.max_size = max_size
        self.evicted = 0
        self.evicted_bytes = 0
        self.promised = 0
        self.overhead = 0
        self.idle_partials: Sizes = Sizes()
        self.quarantine = Quarantine(max_size)
        self.stuck: Sizes = Sizes()
        self.going = 0  # bytes out of the accounting, but not unlinked yet
        self._leaving: list[Entry] = []  # unlinked, but still being read
        self._headroom = _headroom(max_size)
        self.uses = Uses(index, catalog)
        index.when_lost(self._tell)

    def __repr__(self) -> str:
        return f"<Accounting: {len(self.catalog)} kept, {self.used} of {self.max_size} bytes>"

    def change(self, max_size: int) -> None:
        """Change the limit; `Store.trim` then enforces a lower one."""
        self.max_size = max_size
        self._headroom = _headroom(max_size)
        self.quarantine.change(max_size)

    @property
    def used(self) -> int:
        """Bytes used or reserved."""
        return self.taken().all

    def taken(self) -> Taken:
        """Return the parts of `used`."""
        return Taken(
            kept=self.catalog.bytes,
            partial=self.idle_partials.bytes,
            promised=self.promised,
            index=self.overhead,
            leaving=self.going
            + sum(charged(entry.size) for entry in self._leaving if entry.readers),
            quarantine=self.quarantine.bytes + self.stuck.bytes,
        )

    # Eviction

    def fits(self, wanted: int) -> bool:
        """Whether `wanted` bytes could be freed by evicting everything that may be evicted."""
        excess = self._excess(charged(wanted))
        if excess <= 0:
            return True
        excess -= self.quarantine.bytes + self.idle_partials.bytes
        return self.catalog.victims(excess) is not None

    def make_room(self, wanted: int, *, gains: str | None = None) -> Doomed:
        """Choose files to evict, quarantine and idle partials first; takes them out.

        One call returns a limited number of victims; repeat it while `more` is set. Raises
        NoRoom if `wanted` bytes cannot be freed. With `gains`, the upstream that the room is
        for, recently used blobs of other upstreams count as not evictable.
        """
        suspects, excess = self._suspects(self._excess(wanted))
        partials: list[Digest] = []
        for digest, size in self.idle_partials.items():
            if excess <= 0:
                break
            partials.append(digest)
            excess -= charged(size)
        victims = self.catalog.victims(excess, partial(self._spared, gains))
        if victims is None:
            lately = "" if gains is None else " or was used lately"
            raise NoRoom(f"{wanted} bytes do not fit in max_size: the rest is in use{lately}")
        doomed = self.doom(suspects, partials, victims[:_AT_ONCE], evicting=True)
        self.evicted += len(doomed.victims)
        self.evicted_bytes += sum(charged(entry.size) for entry in doomed.victims.values())
        return doomed._replace(more=len(victims) > _AT_ONCE)

    def would_evict(self, freed: int) -> list[Digest]:
        """Return the blobs to evict to keep the limit, after removing `freed` bytes of partials.

        Empty if too few blobs may be evicted, as in `make_room`.
        """
        _, excess = self._suspects(self._excess(0) - freed)
        return self.catalog.victims(excess) or []

    def _suspects(self, excess: int) -> tuple[list[Digest], int]:
        """Return the quarantined files to unlink for an excess, and the bytes left to free."""
        suspects, left = self.quarantine.to_free(excess), self.quarantine
        freed = sum(charged(suspect.size) for each in suspects if (suspect := left.get(each)))
        return suspects, excess - freed

    def _excess(self, wanted: int) -> int:
        """Return the bytes to free for `wanted` more, besides files being unlinked already."""
        return self.used - self.going + wanted + self._headroom - self.max_size

    def _spared(self, gains: str | None, digest: Digest) -> bool:
        """Whether an entry is protected from eviction in favour of upstream `gains`.

        Protected are entries that were used lately and do not belong to that upstream alone.
        """
        if gains is None or not self.uses.lately(digest):
            return False
        entry = self.catalog.get(digest)
        links = entry.links if entry is not None else ()
        return not links or any(each.upstream != gains for each in links)

    def doom(
        self,
        suspects: Iterable[Digest] = (),
        partials: Iterable[Digest] = (),
        victims: Iterable[Digest] = (),
        *,
        evicting: bool = False,
    ) -> Doomed:
        """Take files out of the accounting, to be unlinked."""
        off = {digest: self.idle_partials.pop(digest) for digest in partials}
        doomed = Doomed({}, off, {}, evicting)
        for digest in suspects:
            if suspect := self.quarantine.remove(digest):
                doomed.suspects[digest] = suspect
        for digest in victims:
            if entry := self.forget(digest):
                doomed.victims[digest] = entry
        self.going += doomed.bytes
        return doomed

    def forget(self, digest: Digest) -> Entry | None:
        """Take a blob out of the accounting; the caller unlinks its file."""
        entry = self.catalog.remove(digest)
        if entry is not None:
            self.index.drop(digest)
            self.uses.forget(digest)
            self._let_leave(entry)
        return entry

    def _let_leave(self, entry: Entry) -> None:
        self._leaving = [left for left in self._leaving if left.readers]
        if entry.readers:
            self._leaving.append(entry)

    def put_back(self, digest: Digest, doomed: Doomed) -> None:
        """Return an entry to the accounting after its file could not be unlinked."""
        if digest in doomed.suspects:
            self.quarantine.add(digest, doomed.suspects[digest])
        if digest in doomed.partials:
            self.idle_partials[digest] = doomed.partials[digest]
        if entry := doomed.victims.get(digest):
            self._leaving = [left for left in self._leaving if left is not entry]
            self.catalog.put_back(digest, entry)
            self.tell_of(digest, entry)
            if doomed.evicting:
                self.evicted -= 1
                self.evicted_bytes -= charged(entry.size)

    # Stored content

    def enter(self, digest: Digest, size: int, media_type: str | None, changed_at: int) -> Entry:
        """Enter a newly published file; see `Entry` for the units.

        A previous file of the same name is a different file: the results of its checks are not
        taken over, and its readers keep it on the disk.
        """
        entry = Entry(size, media_type, int(time.time()), changed_at)
        old = self.catalog.remove(digest)
        if old is not None:
            entry.media_type = old.media_type or media_type
            entry.links, entry.children = old.links, old.children
            self._let_leave(old)
        self.catalog.add(digest, entry)
        self.stuck.pop(digest, None)  # replaced by the rename
        self.tell_of(digest, entry)
        return entry

    def describe(self, manifest: Manifest, upstream: str) -> None:
        """Record that a stored file is this manifest, with an upstream's media type.

        Links made while it was taken for a blob are dropped: they do not show that the repository
        has it as a manifest.
        """
        found = manifest.descriptor
        before = self.catalog.get(found.digest)
        if before is not None and before.media_type is None:
            for repository in list(before.links):
                self.unlink(found.digest, repository)
        self.catalog.describe(found.digest, found.media_type, manifest.children, upstream)
        if entry := self.catalog.get(found.digest):
            entry.used_at = int(time.time())
            self.tell_of(found.digest, entry)

    def link(self, digest: Digest, repository: Repository) -> None:
        """Record that a repository contains a stored digest."""
        if self.catalog.link(digest, repository):
            self.index.put_link(LinkRow(digest, repository))

    def unlink(self, digest: Digest, repository: Repository) -> None:
        """Remove the record that a repository contains a stored digest."""
        if self.catalog.unlink(digest, repository):
            self.index.drop_link(LinkRow(digest, repository))

    def touch(self, digest: Digest) -> None:
        """Record a use; see `Uses`."""
        self.uses.add(digest)

    def tell_of(self, digest: Digest, entry: Entry) -> None:
        """Write all facts of an entry to the index."""
        size, media_type, entry.noted_at = entry.size, entry.media_type, entry.used_at
        self.index.put_blob(BlobRow(digest, size, media_type, entry.used_at, entry.changed_at))
        for child in entry.children:
            self.index.put_child(ChildRow(digest, child))
        for upstream, media_type in entry.types.items():
            self.index.put_type(TypeRow(digest, upstream, media_type))
        for repository in entry.links:
            self.index.put_link(LinkRow(digest, repository))

    def _tell(self) -> Iterator[Digest]:
        """Write all entries to a new index, lazily: each is read when its turn comes.

        Manifests are the first: a stop may break this off, and a lost manifest costs a pull.
        """
        manifests, content = list(self.catalog.manifests()), list(self.catalog)
        for digest in manifests:
            if entry := self.catalog.get(digest):
                self.tell_of(digest, entry)
                yield digest
        for digest in content:
            if (entry := self.catalog.get(digest)) and entry.media_type is None:
                self.tell_of(digest, entry)
                yield digest


def _headroom(max_size: int) -> int:
    """Return the bytes that one flush may add to the index."""
    return min(1024 * 1024, max_size // 64)
