"""The store: writes content and finds it again, with files and books in step."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import IO, TypeVar

from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.oci.names import Repository
from mirror.storage.accounting import Accounting
from mirror.storage.catalog import Catalog, Entry
from mirror.storage.disk_threads import DiskThreads
from mirror.storage.errors import NoRoomError, in_words, is_of_stop
from mirror.storage.files import BlobFiles, Opened, looked_at
from mirror.storage.index import Index
from mirror.storage.partial import Partial
from mirror.storage.quota import Quota
from mirror.util.cooperative import cooperatively
from mirror.util.uncancelled import run_to_completion
from mirror.util.units import human

_log = logging.getLogger(__name__)
T = TypeVar("T")
_LAST_WORDS = 3.0  # seconds of a stop in which proven content may still be published
_USES_EVERY = 60.0  # seconds between writing uses to the index


class Store:
    """All stored content. `max_size` bounds files, partials, reserved room and index, in bytes.

    Room is reserved before a write, after evicted files are unlinked, so that the bound holds at
    every moment.
    """

    def __init__(self, files: BlobFiles, index: Index, catalog: Catalog, max_size: int) -> None:
        self.files = files
        self.index = index
        self.catalog = catalog
        self._disk = DiskThreads(files)
        self.accounting = Accounting(index, catalog, max_size)
        self.quota = Quota(self.accounting, files, self._disk)
        self.failures = 0
        self.altered: list[Digest] = []  # found with a wrong size at start, and discarded

    def __repr__(self) -> str:
        used, limit = self.accounting.used, self.accounting.max_size
        return f"<Store: {len(self.catalog)} kept, {used} of {limit} bytes>"

    async def trouble(self) -> str | None:
        """Return the disk's problem, None if there is none; see `DiskThreads.state`."""
        return await self._disk.state()

    async def run(self, work: Callable[..., T], *args: object) -> T:
        """Run a call that writes on a thread; see `DiskThreads.run`."""
        return await self._disk.run(work, *args)

    async def run_read(self, work: Callable[..., T], *args: object) -> T:
        """Run a call that only reads on a thread; see `DiskThreads.run_read`."""
        return await self._disk.run_read(work, *args)

    async def keep_books(self) -> None:
        """Flush the index, and keep the bound as it grows; runs until cancelled."""
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
        async for _ in cooperatively(iter(self.accounting.note_uses, False), 1):
            pass

    async def trim(self) -> None:
        """Evict until the bound holds, after the index grew or the bound was lowered."""
        try:
            self.accounting.overhead = await self.run(self.files.index_bytes)
            self.quota.release(await self.quota.reserve(0))
        except NoRoomError:
            used, limit = human(self.accounting.used), human(self.accounting.max_size)
            _log.warning("cannot evict, %s of %s are taken: all of it is in use", used, limit)
        except OSError as error:
            self.failures += 1
            _log.error("cannot evict: %s", in_words(error))

    def hurry(self) -> None:
        """Limit disk I/O for a stop: after 3 s, none is started, except for the index.

        Proven content has that long to be published; unproven content stays as a partial. Hashing
        and copying for clients end at once: no client is left.
        """
        self.files.halted.set()
        asyncio.get_running_loop().call_later(_LAST_WORDS, self._disk.drop)

    async def close(self) -> None:
        """Flush the index and release files and folder, even if the caller is cancelled."""
        await run_to_completion(self._close())

    async def leave(self) -> None:
        """Close the files and unlock the folder, writing nothing."""
        await run_to_completion(self._let_go(self.index.abandon()))

    async def _close(self) -> None:
        await self._note_uses()
        await self._let_go(self.index.close())

    async def _let_go(self, ending: Coroutine[object, object, None]) -> None:
        try:
            await ending
        finally:
            await self._disk.close()
            self.files.release()

    # Storing

    async def publish(
        self, partial: Partial, repository: Repository, entered: Callable[[], None]
    ) -> Entry:
        """Store a proven partial as a blob of a repository; not cancellable. Raises OSError.

        `entered` releases the reservation at the moment that the blob is entered: counting both,
        even for a moment, could evict other content.
        """
        return await run_to_completion(self._publish(partial, repository, entered))

    async def _publish(
        self, partial: Partial, repository: Repository, entered: Callable[[], None]
    ) -> Entry:
        digest = partial.digest
        async with self.quota.naming(digest):
            changed_at = await self.run(self.files.publish, partial)
            entry = self.accounting.enter(digest, partial.written, None, changed_at)
            self.accounting.link(digest, repository)
            entered()
        return entry

    async def keep_manifest(self, manifest: Manifest, repository: Repository) -> bool:
        """Store a proven manifest; False, with a log line, if that fails.

        Also waits for the pull that fetched it to be on the disk, half a second at most: that write
        began when the manifest arrived, and runs beside the file's.
        """
        try:
            await run_to_completion(self._keep_manifest(manifest, repository))
        except (NoRoomError, OSError) as error:
            self.not_kept(f"manifest {manifest.descriptor.digest}", error)
            return False
        await self.index.pulls_written()
        return True

    async def _keep_manifest(self, manifest: Manifest, repository: Repository) -> None:
        found = manifest.descriptor
        promised = await self.quota.reserve(found.size)
        try:
            async with self.quota.naming(found.digest):
                write = self.files.write_whole
                changed_at = await self.run(write, found.digest, manifest.body)
                self.accounting.enter(found.digest, found.size, found.media_type, changed_at)
                self.accounting.describe(manifest, repository.upstream)
                self.accounting.link(found.digest, repository)
        finally:
            self.quota.release(promised)

    def not_kept(self, what: str, error: Exception) -> None:
        """Count and log content that is passed through unstored; a stop is no failure."""
        if is_of_stop(error):
            _log.info("%s is not stored: the mirror is stopping", what)
            return
        self.failures += 1
        _log.error("cannot store %s, passing it through: %s", what, in_words(error))

    # Finding

    async def open(self, digest: Digest) -> Opened:
        """Open a stored blob; raises OSError, which means that disk and books differ."""
        return await self.run_read(self.files.look, digest)

    def close_file(self, file: IO[bytes]) -> None:
        """Close a file on a thread: the last close of an unlinked one frees its blocks."""
        self._disk.close_file(file)

    async def read(self, digest: Digest) -> bytes:
        """Read a small blob into memory; raises OSError."""
        return await self.run_read(self.files.path(digest).read_bytes)

    async def intact(self, digest: Digest, entry: Entry, found: Opened) -> bool:
        """Whether an open file is unchanged since it was published, by size and time, else by hash.

        Raises OSError if that cannot be determined.
        """
        if found.size == entry.size and found.changed_at != entry.changed_at:
            proof = await self._disk.prove(digest, entry.size)
            if proof is None:
                return False
            entry.changed_at = proof
            if self.catalog.get(digest) is entry:
                self.accounting.tell_of(digest, entry)
            found = await self.run_read(looked_at, found.file)
        return (found.size, found.changed_at) == (entry.size, entry.changed_at)

    # Repair

    async def discard(self, digest: Digest) -> None:
        """Remove a wrong blob from the books, and quarantine its file.

        A missing file needs no quarantine; a file that the disk fails to move is moved later.
        """
        _log.error("%s is damaged or missing: quarantined", digest)
        self.failures += 1
        entry = self.accounting.forget(digest)
        self.accounting.stuck[digest] = entry.size if entry else 0
        await self.quota.set_aside(digest)

    async def _mend(self) -> None:
        """Retry failed moves to quarantine, and delete overdue quarantined files."""
        try:
            await self._disk.probe()
            for digest in list(self.accounting.stuck):
                await self.quota.set_aside(digest)
            overdue = self.accounting.quarantine.overdue(time.time())
            await self.quota.unlink(self.accounting.doom(overdue))
        except OSError as error:
            _log.debug("the disk still fails: %s", in_words(error))
