"""The store: content kept and found again, files and books in step."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import IO, TypeVar

from mirror.lasting import to_the_end
from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.oci.names import Repository
from mirror.sizes import human
from mirror.store.books import Books
from mirror.store.catalogue import Catalogue, Entry
from mirror.store.disk import Disk
from mirror.store.errors import NoRoomError, in_words, is_of_stop
from mirror.store.files import Files, Opened, looked_at
from mirror.store.index import Index
from mirror.store.partial import Partial
from mirror.store.room import Room
from mirror.turns import paced

_log = logging.getLogger(__name__)
T = TypeVar("T")
_LAST_WORDS = 3.0  # seconds of a stop in which what is proven may still get its name
_USES_EVERY = 60.0  # seconds between writing down what was used


class Store:
    """What is kept. `limit` bounds all of it, in bytes: files, partials, room promised, index.

    Room is taken before a byte is written, and what must go for it is unlinked first, so that
    the bound holds at every moment.
    """

    def __init__(self, files: Files, index: Index, catalogue: Catalogue, limit: int) -> None:
        self.files = files
        self.index = index
        self.catalogue = catalogue
        self._disk = Disk(files)
        self.books = Books(index, catalogue, limit)
        self.room = Room(self.books, files, self._disk)
        self.failures = 0
        self.altered: list[Digest] = []  # what the start found with a wrong size, and discarded

    def __repr__(self) -> str:
        return f"<Store: {len(self.catalogue)} kept, {self.books.used} of {self.books.limit} bytes>"

    async def trouble(self) -> str | None:
        """Return what is wrong with the disk, if anything; see `Disk.state`."""
        return await self._disk.state()

    async def run(self, work: Callable[..., T], *args: object) -> T:
        """Do work that writes on a thread; see `Disk.run`."""
        return await self._disk.run(work, *args)

    async def run_read(self, work: Callable[..., T], *args: object) -> T:
        """Do work that only reads on a thread; see `Disk.run_read`."""
        return await self._disk.run_read(work, *args)

    async def keep_books(self) -> None:
        """Write behind and keep the bound as the index grows, for ever; to be cancelled."""
        noted = time.monotonic()
        while True:
            await self.index.due()
            if time.monotonic() > noted + _USES_EVERY:
                await self._note_uses()
                noted = time.monotonic()
            if await self.index.flush():
                await self.trim()
            await self._mend()

    async def _note_uses(self) -> None:
        async for _ in paced(iter(self.books.note_uses, False), 1):
            pass

    async def trim(self) -> None:
        """Evict until the bound holds again, after the index grew or the bound was lowered."""
        try:
            self.books.overhead = await self.run(self.files.index_bytes)
            self.room.release(await self.room.reserve(0))
        except NoRoomError:
            used, limit = human(self.books.used), human(self.books.limit)
            _log.warning("cannot evict, %s of %s are taken: all of it is in use", used, limit)
        except OSError as error:
            self.failures += 1
            _log.error("cannot evict: %s", in_words(error))

    def hurry(self) -> None:
        """Begin nothing more on the disk, but for the index, from a moment on: a stop has begun.

        What was proven has so long to be published; what is not stays as a partial. What is read
        for somebody, to be hashed or copied, ends at once: nobody is left to have it.
        """
        self.files.halted.set()
        asyncio.get_running_loop().call_later(_LAST_WORDS, self._disk.drop)

    async def close(self) -> None:
        """Write behind what is pending, let go of files and folder, whoever stops waiting."""
        await to_the_end(self._close())

    async def leave(self) -> None:
        """Let go of files and folder, and write nothing."""
        await to_the_end(self._let_go(self.index.abandon()))

    async def _close(self) -> None:
        await self._note_uses()
        await self._let_go(self.index.close())

    async def _let_go(self, ending: Coroutine[object, object, None]) -> None:
        try:
            await ending
        finally:
            await self._disk.close()
            self.files.release()

    # Keeping

    async def publish(
        self, partial: Partial, repository: Repository, entered: Callable[[], None]
    ) -> Entry:
        """Keep a proven partial as a blob of a repository, in one step that nothing cancels.

        `entered` gives the room back that was promised for it, as the books take it in: counted
        twice for a moment, it could have others evicted. Raises OSError.
        """
        return await to_the_end(self._publish(partial, repository, entered))

    async def _publish(
        self, partial: Partial, repository: Repository, entered: Callable[[], None]
    ) -> Entry:
        digest = partial.digest
        async with self.room.naming(digest):
            changed_at = await self.run(self.files.publish, partial)
            entry = self.books.enter(digest, partial.written, None, changed_at)
            self.books.link(digest, repository)
            entered()
        return entry

    async def keep_manifest(self, manifest: Manifest, repository: Repository) -> bool:
        """Keep a proven manifest; False, with a line in the log, where that cannot be.

        It returns when the pull that brought it is on the disk, too, unless that takes unusually
        long: that write began as the manifest came, and goes on beside the file's.
        """
        try:
            await to_the_end(self._keep_manifest(manifest, repository))
        except (NoRoomError, OSError) as error:
            self.not_kept(f"manifest {manifest.descriptor.digest}", error)
            return False
        await self.index.pulls_written()
        return True

    async def _keep_manifest(self, manifest: Manifest, repository: Repository) -> None:
        found = manifest.descriptor
        promised = await self.room.reserve(found.size)
        try:
            async with self.room.naming(found.digest):
                write = self.files.write_whole
                changed_at = await self.run(write, found.digest, manifest.body)
                self.books.enter(found.digest, found.size, found.media_type, changed_at)
                self.books.describe(manifest, repository.upstream)
                self.books.link(found.digest, repository)
        finally:
            self.room.release(promised)

    def not_kept(self, what: str, error: Exception) -> None:
        """Count and log that content is passed on without being kept; a stop is no failure."""
        if is_of_stop(error):
            _log.info("%s is not kept: the mirror stops", what)
            return
        self.failures += 1
        _log.error("cannot keep %s, passing it through: %s", what, in_words(error))

    # Finding

    async def open(self, digest: Digest) -> Opened:
        """Open a kept blob; raises OSError, which means that the disk and the books differ."""
        return await self.run_read(self.files.look, digest)

    def close_file(self, file: IO[bytes]) -> None:
        """Close a file on a thread: the last close of an unlinked one frees its blocks."""
        self._disk.close_file(file)

    async def read(self, digest: Digest) -> bytes:
        """Read a small blob whole; raises OSError."""
        return await self.run_read(self.files.path(digest).read_bytes)

    async def intact(self, digest: Digest, entry: Entry, found: Opened) -> bool:
        """Whether an open file is what was published: its size and time say so, or its hash.

        Raises OSError where that cannot be found out.
        """
        if found.size == entry.size and found.changed_at != entry.changed_at:
            proof = await self._disk.prove(digest, entry.size)
            if proof is None:
                return False
            entry.changed_at = proof
            if self.catalogue.get(digest) is entry:
                self.books.tell_of(digest, entry)
            found = await self.run_read(looked_at, found.file)
        return (found.size, found.changed_at) == (entry.size, entry.changed_at)

    # Mending

    async def discard(self, digest: Digest) -> None:
        """Take a blob that is not what the books say out of use, and its file into quarantine.

        A file that is gone is as good. One that the disk will not have moved is moved later.
        """
        _log.error("%s is not what it should be: quarantined", digest)
        self.failures += 1
        entry = self.books.forget(digest)
        self.books.stuck[digest] = entry.size if entry else 0
        await self.room.set_aside(digest)

    async def _mend(self) -> None:
        """Do what the disk would not, and let what was quarantined go in its time."""
        try:
            await self._disk.probe()
            for digest in list(self.books.stuck):
                await self.room.set_aside(digest)
            overdue = self.books.quarantine.overdue(time.time())
            await self.room.unlink(self.books.doom(overdue))
        except OSError as error:
            _log.debug("the disk still fails: %s", in_words(error))
