"""Blob files: written as partials, published by a rename, never written again. Blocking calls."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from mirror.oci.digest import Digest
from mirror.oci.errors import DigestInvalid
from mirror.storage import folder, lock
from mirror.storage.catalog import charged
from mirror.storage.errors import StoreError, go_on
from mirror.storage.partial import Partial
from mirror.storage.shared_folders import refuse_shared
from mirror.storage.sqlite import WAL_BYTES
from mirror.util import permissions

_PROBE = bytes(64 * 1024)
_WHOLE = "whole-"  # files that are never resumed: one left by a crash is useless
_SLICE = 1024 * 1024  # bytes per read when a blob is hashed again


class StoredFile(NamedTuple):
    """A listed file: size in bytes, and when it was last written and moved, in nanoseconds."""

    digest: Digest
    size: int
    changed_at: int
    moved_at: int


class Opened(NamedTuple):
    """An open file, its size in bytes, and when it was last written, in nanoseconds."""

    file: IO[bytes]
    size: int
    changed_at: int


class BlobFiles:
    """The data folder: `blobs/ALGORITHM/AB/HEX`, `partial/`, `quarantine/ALGORITHM-HEX`, a lock.

    Synced are a partial's bytes before its rename, because a name must never lead to missing bytes;
    and the folder after the rename, and a new folder's parent, because a published blob must not
    need to be fetched again. Unlinks, moves to quarantine and unfinished partials are not synced:
    after a power cut each is found in one state or the other, and the start accepts either.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = root / "blobs"
        self._partials = root / "partial"
        self._quarantine = root / "quarantine"
        self._lock: IO[bytes] | None = None
        self.halted = threading.Event()  # set by a stop: long operations end

    def prepare(self) -> None:
        """Create the folders and lock them against a second daemon; raises StoreError."""
        refuse_shared(self.root)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            folder.check(self.root)
            folder.close_to_others(self.root)
            self._blobs.mkdir(exist_ok=True)
            self._partials.mkdir(exist_ok=True)
            self._quarantine.mkdir(exist_ok=True)
            self._lock = lock.take(self.root)
            for left in self._partials.glob(_WHOLE + "*"):
                left.unlink(missing_ok=True)
        except OSError as error:
            why = permissions.explain_refusal(error, self.root)
            raise StoreError(f"cannot write to the data folder {self.root}: {why}") from None

    def probe(self) -> None:
        """Write a temporary file and remove it; raises OSError if that fails."""
        with tempfile.NamedTemporaryFile(prefix=_WHOLE, dir=self._partials) as file:
            file.write(_PROBE)
            file.flush()
            os.fsync(file.fileno())

    def writable(self) -> bool:
        """Whether new content could be stored now."""
        return os.access(self._partials, os.W_OK)

    def release(self) -> None:
        """Unlock the folder for another daemon."""
        if self._lock is not None:
            self._lock.close()

    def path(self, digest: Digest) -> Path:
        """Return the path of a published blob. The digest is valid: no client can choose a path."""
        return self._blobs / digest.algorithm / digest.hex[:2] / digest.hex

    def open(self, digest: Digest) -> IO[bytes]:
        """Open a published blob; raises OSError."""
        return open(self.path(digest), "rb", buffering=0, opener=folder.no_link)

    def look(self, digest: Digest) -> Opened:
        """Open a published blob, and get its size and time; raises OSError."""
        file = self.open(digest)
        try:
            return looked_at(file)
        except BaseException:
            file.close()
            raise

    def prove(self, digest: Digest, size: int) -> int | None:
        """Hash a published blob; returns its modification time in ns, or None if it is wrong.

        Raises OSError.
        """
        hasher = digest.hasher()
        with self.open(digest) as file:
            status = os.fstat(file.fileno())
            while status.st_size == size and (piece := file.read(_SLICE)):
                hasher.update(piece)
                go_on(self.halted)
        return status.st_mtime_ns if hasher.hexdigest() == digest.hex else None

    def partial(self, digest: Digest) -> Partial:
        """Open the partial of a blob, and hash the bytes in it; raises OSError."""
        return Partial(digest, self._partial_path(digest), self.halted)

    def partial_apart(self, digest: Digest) -> Partial:
        """Open an empty partial that no other fetch can resume; raises OSError."""
        descriptor, name = tempfile.mkstemp(prefix=_WHOLE, dir=self._partials)
        os.close(descriptor)
        return Partial(digest, Path(name), self.halted)

    def _partial_path(self, digest: Digest) -> Path:
        return self._partials / f"{digest.algorithm}-{digest.hex}"

    def _quarantined_path(self, digest: Digest) -> Path:
        return self._quarantine / f"{digest.algorithm}-{digest.hex}"

    def write_whole(self, digest: Digest, body: bytes) -> int:
        """Publish proven bytes, independently of other writers of the digest; raises OSError.

        Returns the file's modification time, in nanoseconds since the epoch.
        """
        descriptor, name = tempfile.mkstemp(prefix=_WHOLE, dir=self._partials)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(body)
                file.flush()
                os.fdatasync(descriptor)
                written_at = os.fstat(descriptor).st_mtime_ns
            self._name(Path(name), digest)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        return written_at

    def publish(self, partial: Partial) -> int:
        """Publish a proven partial as a blob that survives a power cut; raises OSError.

        Returns the file's modification time, in nanoseconds since the epoch.
        """
        partial.sync()  # the bytes before the name: a name must never lead to missing bytes
        self._name(partial.path, partial.digest)
        return os.fstat(partial.file.fileno()).st_mtime_ns

    def _name(self, written: Path, digest: Digest) -> None:
        """Rename a written file to its blob path, durably."""
        target = self.path(digest)
        if not target.parent.is_dir():
            target.parent.mkdir(parents=True, exist_ok=True)
            sync_folder(target.parent.parent)  # otherwise the new folder itself may be lost
        written.rename(target)
        try:
            sync_folder(target.parent)
        except OSError:  # the caller takes it as not published, so the disk must, too
            target.rename(written)
            raise

    def set_aside(self, digest: Digest) -> int | None:
        """Move a blob into quarantine; returns its size, None if it is gone. Raises OSError."""
        path, aside = self.path(digest), self._quarantined_path(digest)
        try:
            path.rename(aside)
        except FileNotFoundError:
            if not path.exists():
                return None
            aside.parent.mkdir(exist_ok=True)  # an operator may have removed the folder
            path.rename(aside)
        return aside.stat().st_size

    def remove(self, digests: Iterable[Digest]) -> dict[Digest, OSError]:
        """Unlink blobs; returns the failures. A file that is gone already counts as unlinked."""
        return _unlink(digests, self.path)

    def remove_quarantined(self, digests: Iterable[Digest]) -> dict[Digest, OSError]:
        """Unlink quarantined files, in the same way."""
        return _unlink(digests, self._quarantined_path)

    def remove_partials(self, digests: Iterable[Digest]) -> dict[Digest, OSError]:
        """Unlink partials, in the same way."""
        return _unlink(digests, self._partial_path)

    def scan(self) -> Iterator[StoredFile]:
        """List the blobs; raises OSError."""
        for algorithm in ("sha256", "sha512"):
            with contextlib.suppress(FileNotFoundError):
                yield from self._scan_shards(algorithm)

    def _scan_shards(self, algorithm: str) -> Iterator[StoredFile]:
        with os.scandir(self._blobs / algorithm) as shards:
            for shard in shards:
                go_on(self.halted)
                if shard.is_dir(follow_symlinks=False):
                    yield from _scan(shard.path, f"{algorithm}:{{}}".format)

    def scan_partials(self) -> Iterator[StoredFile]:
        """List the partials."""
        return _scan(str(self._partials), lambda name: name.replace("-", ":", 1))

    def scan_quarantine(self) -> Iterator[StoredFile]:
        """List the quarantined files."""
        return _scan(str(self._quarantine), lambda name: name.replace("-", ":", 1))

    def index_bytes(self) -> int:
        """Return the bytes of all files other than blobs and partials.

        The write-ahead log grows and shrinks from moment to moment: it is counted at its largest.
        """
        return WAL_BYTES + sum(charged(size) for size in self._other_sizes())

    def _other_sizes(self) -> Iterator[int]:
        for entry in os.scandir(self.root):
            with contextlib.suppress(FileNotFoundError):
                if entry.is_file(follow_symlinks=False) and not entry.name.endswith("-wal"):
                    yield entry.stat(follow_symlinks=False).st_size


def looked_at(file: IO[bytes]) -> Opened:
    """Return an open file with its size and modification time; raises OSError."""
    status = os.fstat(file.fileno())
    return Opened(file, status.st_size, status.st_mtime_ns)


def _unlink(digests: Iterable[Digest], path_of: Callable[[Digest], Path]) -> dict[Digest, OSError]:
    failed: dict[Digest, OSError] = {}
    for digest in digests:
        try:
            path_of(digest).unlink(missing_ok=True)
        except OSError as error:
            failed[digest] = error
    return failed


def _scan(folder: str, name_of: Callable[[str], str]) -> Iterator[StoredFile]:
    """List a folder, skipping files not named after a digest."""
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                digest = Digest.parse(name_of(entry.name))
                status = entry.stat(follow_symlinks=False)
            except (DigestInvalid, FileNotFoundError):
                continue
            yield StoredFile(digest, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def sync_folder(folder: Path) -> None:
    """Sync a folder's entries to the disk; raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
