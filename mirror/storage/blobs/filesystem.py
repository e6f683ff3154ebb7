"""Blobs in a data folder: the files, and the threads that work on them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from mirror.oci.digest import Digest
from mirror.storage.blobs.file_reader import FileReader
from mirror.storage.blobs.files import BlobFiles
from mirror.storage.blobs.partial_file import PartialFile
from mirror.storage.blobs.protocol import BlobReader, ListedBlob, Recovered
from mirror.storage.blobs.threads import DiskThreads
from mirror.storage.errors import StorageError, storage_error
from mirror.util.gc_pause import gc_paused
from mirror.util.singleflight import SingleFlight
from mirror.util.uncancelled import run_to_completion

_ANSWER = 0.8  # seconds for a health check: probes give up after one by default (Kubernetes)
_PROOFS = 2  # blobs hashed again at the same time: the threads have other work, too


def open_filesystem(root: Path, threads: DiskThreads) -> FilesystemBlobs:
    """Open the blobs in a data folder, without unfinished files of a crash; raises OSError."""
    files = BlobFiles(root, threads.halted)
    files.remove_leftovers()
    return FilesystemBlobs(files, threads)


class FilesystemBlobs:
    """A BlobStore over the files of a data folder."""

    def __init__(self, files: BlobFiles, threads: DiskThreads) -> None:
        self.files = files
        self._threads = threads
        self._looks: SingleFlight[str, str | None] = SingleFlight()
        self._proofs: SingleFlight[Digest, int | None] = SingleFlight()
        self._proving = asyncio.Semaphore(_PROOFS)

    def __repr__(self) -> str:
        return f"<FilesystemBlobs: {self.files.root}, {len(self._proofs)} blobs being hashed>"

    async def recover(self) -> Recovered:
        """List the files, by kind; raises StorageError."""
        return await self._threads.run_read(self._recovered)

    def _recovered(self) -> Recovered:
        blobs = {found.digest: found for found in self.files.scan()}
        partials, quarantined = self.files.scan_partials(), self.files.scan_quarantine()
        return Recovered(blobs, list(partials), list(quarantined))

    async def close(self) -> None:
        """Stop the running proofs and checks."""
        await self._proofs.close()
        await self._looks.close()

    # Blobs

    async def open(self, digest: Digest) -> FileReader:
        """Open a blob; raises StorageError."""
        opened: list[FileReader] = []
        try:
            await self._threads.run_read(lambda: opened.append(self._opened(digest)))
        except asyncio.CancelledError:  # the call went on, and its result would be lost
            for reader in opened:
                reader.close()
            raise
        return opened[0]

    def _opened(self, digest: Digest) -> FileReader:
        file = self.files.open(digest)
        try:
            status = os.fstat(file.fileno())
        except BaseException:
            file.close()
            raise
        return FileReader(file, self._threads, status.st_size, status.st_mtime_ns)

    async def read(self, digest: Digest) -> bytes:
        """Return a small blob whole; raises StorageError."""
        return await self._threads.run_read(self.files.path(digest).read_bytes)

    async def size(self, digest: Digest) -> int | None:
        """Return the size of a blob in bytes, None if there is none; raises StorageError."""
        return await self._threads.run_read(_size_of, self.files.path(digest))

    async def prove(self, digest: Digest, size: int) -> int | None:
        """Hash a blob, once for concurrent callers; returns when its bytes were written."""
        return await self._proofs.join(digest, lambda: self._prove(digest, size))

    async def _prove(self, digest: Digest, size: int) -> int | None:
        async with self._proving:
            return await self._threads.run_read(self.files.prove, digest, size)

    async def is_current(self, digest: Digest, reader: BlobReader) -> bool:
        """Whether a reader's file is still the blob's, or there is none; raises StorageError."""
        descriptor, path = reader.fileno(), self.files.path(digest)
        return descriptor is not None and await self._threads.run_read(_is_at, descriptor, path)

    async def write(self, digest: Digest, body: bytes) -> int:
        """Store proven bytes; returns the file's modification time. Raises StorageError."""
        return await self._threads.run(self.files.write_whole, digest, body)

    async def quarantine(self, digest: Digest) -> int | None:
        """Move a wrong blob into quarantine; returns its size. Raises StorageError."""
        return await self._threads.run(self.files.set_aside, digest)

    async def scan(self) -> list[ListedBlob]:
        """List the blobs; raises StorageError."""
        return await self._threads.run_read(gc_paused()(lambda: list(self.files.scan())))

    # Partials

    async def partial(self, digest: Digest, *, isolated: bool = False) -> PartialFile:
        """Open a partial, and hash its bytes; raises StorageError."""
        new = self.files.isolated_partial if isolated else self.files.partial
        opened: list[PartialFile] = []
        try:
            await self._threads.run_read(lambda: opened.append(new(digest, self._threads)))
        except asyncio.CancelledError:  # the call went on, and its result would be lost
            for partial in opened:
                await run_to_completion(self._let_go(partial))
            raise
        return opened[0]

    async def _let_go(self, partial: PartialFile) -> None:
        if not partial.written:
            with suppress(StorageError):  # the next start removes it
                await partial.remove()
        partial.close()

    # Removing

    async def delete(
        self,
        blobs: Collection[Digest],
        partials: Collection[Digest] = (),
        quarantined: Collection[Digest] = (),
    ) -> dict[Digest, StorageError]:
        """Unlink files, in one call on a thread; returns the failures. Raises StorageError."""
        failed = await self._threads.run(self._unlinked, blobs, partials, quarantined)
        for error in failed.values():
            self._threads.note(error)
        return {digest: storage_error(error) for digest, error in failed.items()}

    def _unlinked(
        self,
        blobs: Collection[Digest],
        partials: Collection[Digest],
        quarantined: Collection[Digest],
    ) -> dict[Digest, OSError]:
        return (
            self.files.remove_quarantined(quarantined)
            | self.files.remove_partials(partials)
            | self.files.remove(blobs)
        )

    # The disk's state

    async def trouble(self) -> str | None:
        """Check the disk; returns a problem or None, within a second."""
        if (error := self._threads.trouble) is not None:
            return f"cannot write to {self.files.root}: {error.strerror}"
        look = self._looks.task("look", self._look)
        done, _ = await asyncio.wait([look], timeout=_ANSWER)
        return look.result() if done else f"{self.files.root} does not answer"

    async def _look(self) -> str | None:
        try:
            if await self._threads.run_look(self.files.writable):
                return None
        except StorageError as error:
            return f"cannot access {self.files.root}: {error.reason}"
        return f"cannot write to {self.files.root}"

    async def probe(self) -> None:
        """Retry a write if the last one failed; raises StorageError if it fails again."""
        if self._threads.trouble:
            await self._threads.run(self.files.probe)
            self._threads.trouble = None


def _size_of(path: Path) -> int | None:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return None


def _is_at(file: int, path: Path) -> bool:
    """Whether a path still leads to this file. A missing file counts as yes."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return True
