"""The store: room for content within the bound, files and index in step."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, NamedTuple, TypeVar

from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.oci.names import Repository
from mirror.store.catalogue import Catalogue, Entry, charged
from mirror.store.disk import Disk
from mirror.store.errors import NoRoomError
from mirror.store.files import Files, Partial
from mirror.store.index import Index
from mirror.store.quarantine import Quarantine, Suspect

_log = logging.getLogger(__name__)
T = TypeVar("T")
_USES_EVERY = 60.0  # seconds between writing down what was used


class _Doomed(NamedTuple):
    """What is off the books and about to be unlinked."""

    suspects: dict[Digest, Suspect]
    partials: dict[Digest, int]
    victims: dict[Digest, Entry]
    evicting: bool


@dataclass(frozen=True, slots=True)
class Taken:
    """What the bound covers, in bytes. `leaving` is unlinked, and read to its end by someone."""

    kept: int
    partial: int
    promised: int
    index: int
    leaving: int
    quarantine: int

    @property
    def all(self) -> int:
        """The sum."""
        fetched = self.kept + self.partial + self.promised
        return fetched + self.index + self.leaving + self.quarantine


class Store:
    """What is kept. `limit` bounds all of it, in bytes: files, partials, room promised, index.

    Room is taken before a byte is written, and what must go for it is unlinked first, so that
    the bound holds at every moment.
    """

    def __init__(self, files: Files, index: Index, catalogue: Catalogue, limit: int) -> None:
        self.files = files
        self.index = index
        self.catalogue = catalogue
        self.limit = limit
        self.evicted = 0
        self.evicted_bytes = 0
        self.failures = 0
        self.altered: list[Digest] = []  # what the start found with a wrong size, and discarded
        self.idle_partials: dict[Digest, int] = {}
        self.quarantine = Quarantine(limit)
        self._stuck: dict[Digest, int] = {}  # wrong, and not to be moved: the disk would not
        self._promised = 0
        self._doomed: set[Digest] = set()  # off the books, not yet unlinked
        self._publishing: Counter[Digest] = Counter()  # named or about to be, not yet entered
        self._leaving: list[Entry] = []  # off the books and unlinked, but still being read
        self._fewer_doomed = asyncio.Condition()
        self._overhead = 0
        self._headroom = min(1024 * 1024, limit // 64)  # what one flush may add to the index
        self._touched: set[Digest] = set()
        self._noted = time.monotonic()
        self._disk = Disk(files)
        index.sources.append(self._tell)

    def __repr__(self) -> str:
        return f"<Store: {len(self.catalogue)} kept, {self.used} of {self.limit} bytes>"

    @property
    def trouble(self) -> str | None:
        """What is wrong with the disk, if anything."""
        return self._disk.trouble

    @property
    def used(self) -> int:
        """Bytes taken or promised."""
        return self.taken().all

    def taken(self) -> Taken:
        """Tell what `used` is made of."""
        return Taken(
            kept=self.catalogue.bytes,
            partial=sum(charged(size) for size in self.idle_partials.values()),
            promised=self._promised,
            index=self._overhead,
            leaving=sum(charged(entry.size) for entry in self._leaving if entry.readers),
            quarantine=self.quarantine.bytes + sum(map(charged, self._stuck.values())),
        )

    async def run(self, work: Callable[..., T], *args: object) -> T:
        """Do blocking work on a thread; see `Disk.run`."""
        return await self._disk.run(work, *args)

    async def keep_books(self) -> None:
        """Write behind and keep the bound as the index grows, for ever; to be cancelled."""
        while True:
            await self.index.due()
            if time.monotonic() > self._noted + _USES_EVERY:
                self.note_uses()
            # Shielded: a flush that is cancelled midway would lose what it was writing.
            if await asyncio.shield(self.index.flush()):
                await self.trim()
            await self._mend()

    async def close(self) -> None:
        """Write behind what is pending, let go of files and folder."""
        self.note_uses()
        await self.index.close()
        await self._disk.close()
        self.files.release()

    # Room

    async def reserve(self, size: int) -> int:
        """Promise room for `size` bytes, evicting if need be; returns what to give back later.

        Raises NoRoomError where the bound leaves none, OSError where nothing can be unlinked.
        """
        wanted = charged(size)
        doomed = self._make_room(wanted)
        self._promised += wanted
        try:
            await self._unlink(doomed)
        except BaseException:
            self._promised -= wanted
            raise
        return wanted

    def release(self, promised: int) -> None:
        """Give back what `reserve` returned."""
        self._promised -= promised

    async def take_partial(self, digest: Digest) -> int:
        """Turn an idle partial, if there is one, into a promise that nobody evicts.

        Returns what to give back later. Raises NoRoomError, OSError.
        """
        await self._unlinked(digest)
        size = self.idle_partials.pop(digest, 0)
        try:
            return await self.reserve(size)
        except BaseException:
            if size:
                self.idle_partials[digest] = size
            raise

    async def trim(self) -> None:
        """Evict until the bound holds again, after the index grew or the bound was lowered."""
        try:
            self._overhead = await self.run(self.files.index_bytes)
            self.release(await self.reserve(0))
        except NoRoomError:
            _log.warning("%r: all of it is in use", self)
        except OSError as error:
            self.failures += 1
            _log.error("cannot evict: %s", error)

    def _make_room(self, wanted: int) -> _Doomed:
        """Decide what goes, quarantine and abandoned partials first, and take it off the books."""
        excess = self.used + wanted + self._headroom - self.limit
        suspects = self.quarantine.to_free(excess)
        left = self.quarantine
        excess -= sum(charged(suspect.size) for each in suspects if (suspect := left.get(each)))
        partials: list[Digest] = []
        for digest, size in self.idle_partials.items():
            if excess <= 0:
                break
            partials.append(digest)
            excess -= charged(size)
        victims = self.catalogue.victims(excess)
        if victims is None:
            raise NoRoomError(f"{wanted} bytes do not fit beside what is in use")
        doomed = self._doom(suspects, partials, victims, evicting=True)
        self.evicted += len(doomed.victims)
        self.evicted_bytes += sum(charged(entry.size) for entry in doomed.victims.values())
        return doomed

    def _doom(
        self,
        suspects: Iterable[Digest] = (),
        partials: Iterable[Digest] = (),
        victims: Iterable[Digest] = (),
        *,
        evicting: bool = False,
    ) -> _Doomed:
        """Take things off the books."""
        off = {digest: self.idle_partials.pop(digest) for digest in partials}
        doomed = _Doomed({}, off, {}, evicting)
        for digest in suspects:
            if suspect := self.quarantine.remove(digest):
                doomed.suspects[digest] = suspect
        for digest in victims:
            if entry := self.forget(digest):
                doomed.victims[digest] = entry
        return doomed

    def forget(self, digest: Digest) -> Entry | None:
        """Take a blob off the books; its file is the caller's to unlink."""
        entry = self.catalogue.remove(digest)
        if entry is not None:
            self.index.drop(digest)
            self._touched.discard(digest)
            self._leaving = [left for left in self._leaving if left.readers]
            if entry.readers:
                self._leaving.append(entry)
        return entry

    async def _unlink(self, doomed: _Doomed) -> None:
        """Unlink what is off the books; nobody publishes the same anew before that is done.

        What cannot be unlinked returns to the books, for it still takes its room, and can still
        be served. Raises OSError then.
        """
        if not (doomed.suspects or doomed.partials or doomed.victims):
            return
        names = {*doomed.partials, *doomed.victims}
        self._doomed.update(names)
        try:
            failed = await self.run(self._unlink_now, doomed)
            for digest in failed:
                self._put_back(digest, doomed)
        finally:
            await self._no_longer_doomed(names)
        for error in failed.values():
            self._disk.note(error)
            raise error

    def _unlink_now(self, doomed: _Doomed) -> dict[Digest, OSError]:
        return (
            self.files.remove_quarantined(doomed.suspects)
            | self.files.remove_partials(doomed.partials)
            | self.files.remove(doomed.victims)
        )

    def _put_back(self, digest: Digest, doomed: _Doomed) -> None:
        if digest in doomed.suspects:
            self.quarantine.add(digest, doomed.suspects[digest])
        if digest in doomed.partials:
            self.idle_partials[digest] = doomed.partials[digest]
        if entry := doomed.victims.get(digest):
            self._leaving = [left for left in self._leaving if left is not entry]
            self.catalogue.put_back(digest, entry)
            self._tell_of(digest, entry)
            if doomed.evicting:
                self.evicted -= 1
                self.evicted_bytes -= charged(entry.size)

    async def _no_longer_doomed(self, names: set[Digest]) -> None:
        self._doomed.difference_update(names)
        async with self._fewer_doomed:
            self._fewer_doomed.notify_all()

    async def _unlinked(self, digest: Digest) -> None:
        """Wait until what was evicted under this name is gone."""
        async with self._fewer_doomed:
            await self._fewer_doomed.wait_for(lambda: digest not in self._doomed)

    # Removing

    async def remove(self, digests: Iterable[Digest]) -> int:
        """Remove blobs, whoever reads them: readers keep their open file.

        Returns the bytes that come free, at once or when the last reader ends. Raises OSError.
        """
        before = self.catalogue.bytes
        doomed = self._doom(victims=digests)
        freed = before - self.catalogue.bytes
        await self._unlink(doomed)
        return freed

    async def remove_partials(self, digests: Iterable[Digest]) -> tuple[int, int]:
        """Remove those of these partials that nobody is fetching; returns how many, and bytes.

        Raises OSError.
        """
        idle = [digest for digest in digests if digest in self.idle_partials]
        doomed = self._doom(partials=idle)
        await self._unlink(doomed)
        return len(idle), sum(charged(size) for size in doomed.partials.values())

    async def remove_strangers(self, sizes: dict[Digest, int]) -> tuple[int, int]:
        """Remove those of these files, by size in bytes, that are not on the books.

        Returns how many, and bytes. Raises OSError.
        """
        strangers = [
            digest
            for digest in sizes
            if self.catalogue.get(digest) is None
            and digest not in self._doomed
            and not self._publishing[digest]
        ]
        self._doomed.update(strangers)
        try:
            failed = await self.run(self.files.remove, strangers)
        finally:
            await self._no_longer_doomed(set(strangers))
        for error in failed.values():
            raise error
        return len(strangers), sum(charged(sizes[digest]) for digest in strangers)

    # Keeping

    async def publish(self, partial: Partial, repository: Repository) -> Entry:
        """Keep a proven partial as a blob of a repository; raises OSError."""
        await self._unlinked(partial.digest)
        stuck = self._stuck.pop(partial.digest, None)  # the rename replaces what is there
        try:
            with self._naming(partial.digest):
                changed_at = await self.run(self.files.publish, partial)
                entry = self._enter(partial.digest, partial.written, None, changed_at)
        except BaseException:
            if stuck is not None:
                self._stuck[partial.digest] = stuck
            raise
        self.link(partial.digest, repository)
        return entry

    async def keep_manifest(self, manifest: Manifest, repository: Repository) -> bool:
        """Keep a proven manifest; False, with a line in the log, where that cannot be."""
        digest = manifest.descriptor.digest
        try:
            promised = await self.reserve(manifest.descriptor.size)
            try:
                await self._unlinked(digest)
                with self._naming(digest):
                    changed_at = await self.run(self.files.write_whole, digest, manifest.body)
                    self._stuck.pop(digest, None)
                    found = manifest.descriptor
                    self._enter(digest, found.size, found.media_type, changed_at)
            finally:
                self.release(promised)
        except (NoRoomError, OSError) as error:
            self.failures += 1
            _log.error("cannot keep manifest %s: %s", digest, error)
            return False
        self.describe(manifest)
        self.link(digest, repository)
        return True

    def describe(self, manifest: Manifest) -> None:
        """Note that a kept file is this manifest."""
        found = manifest.descriptor
        self.catalogue.describe(found.digest, found.media_type, manifest.children)
        if entry := self.catalogue.get(found.digest):
            entry.used_at = int(time.time())
            self._tell_of(found.digest, entry)

    def link(self, digest: Digest, repository: Repository) -> None:
        """Note that a repository holds a kept digest."""
        if self.catalogue.link(digest, repository):
            self.index.put_link(digest, repository)

    def unlink(self, digest: Digest, repository: Repository) -> None:
        """Note that a repository holds a kept digest no more by itself."""
        if self.catalogue.unlink(digest, repository):
            self.index.drop_link(digest, repository)

    @contextmanager
    def _naming(self, digest: Digest) -> Iterator[None]:
        """Keep a file that gets its name from being taken for a stranger until it is entered."""
        self._publishing[digest] += 1
        try:
            yield
        finally:
            self._publishing[digest] -= 1
            if not self._publishing[digest]:
                del self._publishing[digest]

    def _enter(self, digest: Digest, size: int, media_type: str | None, changed_at: int) -> Entry:
        entry = self.catalogue.get(digest)
        if entry is None:
            entry = Entry(size, media_type, 0)
            self.catalogue.add(digest, entry)
        entry.used_at, entry.changed_at = int(time.time()), changed_at
        self._tell_of(digest, entry)
        return entry

    def _tell(self) -> None:
        """Tell the index all there is: it was lost, and begins anew."""
        for digest in self.catalogue:
            if entry := self.catalogue.get(digest):
                self._tell_of(digest, entry)

    def _tell_of(self, digest: Digest, entry: Entry) -> None:
        self.index.put_blob(digest, entry.size, entry.media_type, entry.used_at, entry.changed_at)
        self.index.put_children(digest, entry.children)
        for repository in entry.links:
            self.index.put_link(digest, repository)

    # Using

    def touch(self, digest: Digest) -> None:
        """Note a use: in memory now, in the index some time later."""
        self.catalogue.touch(digest)
        self._touched.add(digest)

    def note_uses(self) -> None:
        """Hand the uses so far to the index."""
        now = int(time.time())
        for digest in self._touched:
            if entry := self.catalogue.get(digest):
                entry.used_at = now
            self.index.touch(digest, now)
        self._touched.clear()
        self._noted = time.monotonic()

    async def intact(self, digest: Digest, entry: Entry, file: IO[bytes]) -> bool:
        """Whether an open file is what was published: its size and time say so, or its hash.

        Raises OSError where that cannot be found out.
        """
        status = os.fstat(file.fileno())
        if status.st_size == entry.size and status.st_mtime_ns != entry.changed_at:
            proof = await self._disk.prove(digest, entry.size)
            if proof is None:
                return False
            entry.changed_at = proof
            if self.catalogue.get(digest) is entry:
                self._tell_of(digest, entry)
            status = os.fstat(file.fileno())
        return (status.st_size, status.st_mtime_ns) == (entry.size, entry.changed_at)

    async def discard(self, digest: Digest) -> None:
        """Take a blob that is not what the books say out of use, and its file into quarantine.

        A file that is gone is as good. One that the disk will not have moved is moved later.
        """
        _log.error("%s is not what it should be: quarantined", digest)
        self.failures += 1
        entry = self.forget(digest)
        self._stuck[digest] = entry.size if entry else 0
        await self._set_aside(digest)

    async def _set_aside(self, digest: Digest) -> None:
        self._doomed.add(digest)
        try:
            size = await self.run(self.files.set_aside, digest)
        except OSError as error:
            _log.error("cannot quarantine %s, will try again: %s", digest, error)
            return
        finally:
            await self._no_longer_doomed({digest})
        self._stuck.pop(digest, None)
        if size is not None:
            self.quarantine.add(digest, Suspect(size, int(time.time())))

    async def _mend(self) -> None:
        """Do what the disk would not, and let what was quarantined go in its time."""
        try:
            await self._disk.probe()
            for digest in list(self._stuck):
                await self._set_aside(digest)
            await self._unlink(self._doom(self.quarantine.overdue(time.time())))
        except OSError as error:
            _log.debug("the disk still fails: %s", error)

    async def open(self, digest: Digest) -> IO[bytes]:
        """Open a kept blob; raises OSError, which means that the disk and the books differ."""
        return await self.run(self.files.open, digest)

    def close_file(self, file: IO[bytes]) -> None:
        """Close a file on a thread: the last close of an unlinked one frees its blocks."""
        self._disk.close_file(file)

    async def read(self, digest: Digest) -> bytes:
        """Read a small blob whole; raises OSError."""
        return await self.run(self.files.path(digest).read_bytes)
