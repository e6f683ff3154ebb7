"""The store: room for content within the bound, files and index in step."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TypeVar

from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.oci.names import Repository
from mirror.store.catalogue import Catalogue, Entry, charged
from mirror.store.errors import NoRoomError
from mirror.store.files import Files, Partial
from mirror.store.index import Index

_log = logging.getLogger(__name__)
T = TypeVar("T")
_USES_EVERY = 60.0  # seconds between writing down what was used


@dataclass(frozen=True, slots=True)
class Taken:
    """What the bound covers, in bytes. `leaving` is unlinked, and read to its end by someone."""

    kept: int
    partial: int
    promised: int
    index: int
    leaving: int

    @property
    def all(self) -> int:
        """The sum."""
        return self.kept + self.partial + self.promised + self.index + self.leaving


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
        self._promised = 0
        self._doomed: set[Digest] = set()  # off the books, not yet unlinked
        self._publishing: Counter[Digest] = Counter()  # named or about to be, not yet entered
        self._leaving: list[Entry] = []  # off the books and unlinked, but still being read
        self._fewer_doomed = asyncio.Condition()
        self._overhead = 0
        self._headroom = min(1024 * 1024, limit // 64)  # what one flush may add to the index
        self._touched: set[Digest] = set()
        self._noted = time.monotonic()
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="store")

    def __repr__(self) -> str:
        return f"<Store: {len(self.catalogue)} kept, {self.used} of {self.limit} bytes>"

    @property
    def used(self) -> int:
        """Bytes taken or promised."""
        return self.taken().all

    def taken(self) -> Taken:
        """Tell what `used` is made of."""
        partial = sum(charged(size) for size in self.idle_partials.values())
        leaving = sum(charged(entry.size) for entry in self._leaving if entry.readers)
        return Taken(self.catalogue.bytes, partial, self._promised, self._overhead, leaving)

    async def run(self, work: Callable[..., T], *args: object) -> T:
        """Do blocking work on a thread of the store's own, so that DNS never waits for a disk.

        Work that has begun is waited for even by a task that is cancelled: nobody closes a file
        under a thread that writes to it.
        """
        job = asyncio.get_running_loop().run_in_executor(self._threads, work, *args)
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            await asyncio.wait([job])
            raise

    async def keep_books(self) -> None:
        """Write behind and keep the bound as the index grows, for ever; to be cancelled."""
        while True:
            await self.index.due()
            if time.monotonic() > self._noted + _USES_EVERY:
                self.note_uses()
            # Shielded: a flush that is cancelled midway would lose what it was writing.
            if await asyncio.shield(self.index.flush()):
                await self.trim()

    async def close(self) -> None:
        """Write behind what is pending, let go of files and folder."""
        self.note_uses()
        await self.index.close()
        await asyncio.to_thread(self._threads.shutdown)
        self.files.release()

    # Room

    async def reserve(self, size: int) -> int:
        """Promise room for `size` bytes, evicting if need be; returns what to give back later.

        Raises NoRoomError where the bound leaves none, OSError where nothing can be unlinked.
        """
        wanted = charged(size)
        partials, victims = self._make_room(wanted)
        self._promised += wanted
        try:
            await self._unlink(partials, victims)
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
        await self._unlinked(digest)  # else the new one would lose its file to the old one's end
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

    def _make_room(self, wanted: int) -> tuple[list[Digest], list[Digest]]:
        """Decide what goes, abandoned partials first, and take it off the books."""
        excess = self.used + wanted + self._headroom - self.limit
        partials: list[Digest] = []
        for digest, size in self.idle_partials.items():
            if excess <= 0:
                break
            partials.append(digest)
            excess -= charged(size)
        victims = self.catalogue.victims(excess)
        if victims is None:
            raise NoRoomError(f"{wanted} bytes do not fit beside what is in use")
        for digest in partials:
            del self.idle_partials[digest]
        before = self.catalogue.bytes
        for digest in victims:
            self.forget(digest)
        self.evicted += len(victims)
        self.evicted_bytes += before - self.catalogue.bytes
        return partials, victims

    def forget(self, digest: Digest) -> None:
        """Take a blob off the books; its file is the caller's to unlink."""
        entry = self.catalogue.remove(digest)
        if entry is not None:
            self.index.drop(digest)
            self._touched.discard(digest)
            self._leaving = [left for left in self._leaving if left.readers]
            if entry.readers:
                self._leaving.append(entry)

    async def _unlink(self, partials: list[Digest], victims: list[Digest]) -> None:
        """Unlink what is off the books; nobody publishes the same anew before that is done."""
        if not partials and not victims:
            return
        doomed = {*partials, *victims}
        self._doomed |= doomed
        try:
            await self.run(self.files.remove_partials, partials)
            await self.run(self.files.remove, victims)
        finally:
            self._doomed -= doomed
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
        gone = [digest for digest in digests if self.catalogue.get(digest) is not None]
        before = self.catalogue.bytes
        for digest in gone:
            self.forget(digest)
        freed = before - self.catalogue.bytes
        await self._unlink([], gone)
        return freed

    async def remove_partials(self, digests: Iterable[Digest]) -> tuple[int, int]:
        """Remove those of these partials that nobody is fetching; returns how many, and bytes.

        Raises OSError.
        """
        idle = [digest for digest in digests if digest in self.idle_partials]
        freed = sum(charged(self.idle_partials.pop(digest)) for digest in idle)
        await self._unlink(idle, [])
        return len(idle), freed

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
        await self._unlink([], strangers)
        return len(strangers), sum(charged(sizes[digest]) for digest in strangers)

    # Keeping

    async def publish(self, partial: Partial, repository: Repository) -> Entry:
        """Keep a proven partial as a blob of a repository; raises OSError."""
        await self._unlinked(partial.digest)
        with self._naming(partial.digest):
            await self.run(self.files.publish, partial)
            entry = self._enter(partial.digest, partial.written, None)
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
                    await self.run(self.files.write_whole, digest, manifest.body)
                    self._enter(digest, manifest.descriptor.size, manifest.descriptor.media_type)
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
        self.index.put_blob(found.digest, found.size, found.media_type, int(time.time()))
        self.index.put_children(found.digest, manifest.children)

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

    def _enter(self, digest: Digest, size: int, media_type: str | None) -> Entry:
        now = int(time.time())
        entry = self.catalogue.get(digest)
        if entry is None:
            entry = Entry(size, media_type, now)
            self.catalogue.add(digest, entry)
        self.index.put_blob(digest, size, entry.media_type, now)
        return entry

    # Using

    def touch(self, digest: Digest) -> None:
        """Note a use: in memory now, in the index some time later."""
        self.catalogue.touch(digest)
        self._touched.add(digest)

    def note_uses(self) -> None:
        """Hand the uses so far to the index."""
        now = int(time.time())
        for digest in self._touched:
            self.index.touch(digest, now)
        self._touched.clear()
        self._noted = time.monotonic()

    async def discard(self, digest: Digest) -> None:
        """Throw away a blob that is not what the books say."""
        _log.error("%s is not what it should be: discarded", digest)
        self.failures += 1
        self.forget(digest)
        await self._unlink([], [digest])

    async def open(self, digest: Digest) -> IO[bytes]:
        """Open a kept blob; raises OSError, which means that the disk and the books differ."""
        return await self.run(self.files.open, digest)

    def close_file(self, file: IO[bytes]) -> None:
        """Close a file on a thread: the last close of an unlinked one frees its blocks."""
        self._threads.submit(file.close)

    async def read(self, digest: Digest) -> bytes:
        """Read a small blob whole; raises OSError."""
        return await self.run(self.files.path(digest).read_bytes)
