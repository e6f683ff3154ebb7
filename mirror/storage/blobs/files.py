"""Blob files: written as partials, published by a rename, never written again. Blocking calls."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from mirror.oci.digest import Digest
from mirror.oci.errors import DigestInvalid
from mirror.storage import folder
from mirror.storage.blobs.partial_file import PartialFile
from mirror.storage.blobs.protocol import ListedBlob
from mirror.storage.blobs.threads import DiskThreads
from mirror.storage.data_folder import sync_folder
from mirror.storage.errors import go_on

_PROBE = bytes(64 * 1024)
_WHOLE = "whole-"  # files that are never resumed: one left by a crash is useless
_SLICE = 1024 * 1024  # bytes per read when a blob is hashed again


class BlobFiles:
    """The files of a data folder: `blobs/ALGORITHM/AB/HEX`, `partial/`, `quarantine/ALGORITHM-HEX`.

    Long operations end with Stopping once `halted` is set.

    Synced are a partial's bytes before its rename, because a name must never lead to missing bytes;
    and the folder after the rename, and a new folder's parent, because a published blob must not
    need to be fetched again. Unlinks, moves to quarantine and unfinished partials are not synced:
    after a power cut each is found in one state or the other, and the start accepts either.
    """

    def __init__(self, root: Path, halted: threading.Event | None = None) -> None:
        self.root = root
        self._blobs = root / "blobs"
        self._partials = root / "partial"
        self._quarantine = root / "quarantine"
        self._halted = halted or threading.Event()

    def remove_leftovers(self) -> None:
        """Remove the files that a crash left unfinished and no fetch resumes; raises OSError."""
        for left in self._partials.glob(_WHOLE + "*"):
            left.unlink(missing_ok=True)

    def probe(self) -> None:
        """Write a temporary file and remove it; raises OSError if that fails."""
        with tempfile.NamedTemporaryFile(prefix=_WHOLE, dir=self._partials) as file:
            file.write(_PROBE)
            file.flush()
            os.fsync(file.fileno())

    def writable(self) -> bool:
        """Whether new content could be stored now."""
        return os.access(self._partials, os.W_OK)

    def path(self, digest: Digest) -> Path:
        """Return the path of a published blob. The digest is valid: no client can choose a path."""
        return self._blobs / digest.algorithm / digest.hex[:2] / digest.hex

    def open(self, digest: Digest) -> IO[bytes]:
        """Open a published blob; raises OSError."""
        return open(self.path(digest), "rb", buffering=0, opener=folder.no_link)

    def prove(self, digest: Digest, size: int) -> int | None:
        """Hash a published blob; returns its modification time in ns, or None if it is wrong.

        Raises OSError, Stopping.
        """
        hasher = digest.hasher()
        with self.open(digest) as file:
            status = os.fstat(file.fileno())
            while status.st_size == size and (piece := file.read(_SLICE)):
                hasher.update(piece)
                go_on(self._halted)
        return status.st_mtime_ns if hasher.hexdigest() == digest.hex else None

    def partial(self, digest: Digest, threads: DiskThreads) -> PartialFile:
        """Open the partial of a blob, and hash the bytes in it; raises OSError, Stopping."""
        return PartialFile(digest, self._partial_path(digest), threads, self._name)

    def isolated_partial(self, digest: Digest, threads: DiskThreads) -> PartialFile:
        """Open an empty partial that no other fetch can resume; raises OSError."""
        descriptor, name = tempfile.mkstemp(prefix=_WHOLE, dir=self._partials)
        os.close(descriptor)
        return PartialFile(digest, Path(name), threads, self._name)

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

    def scan(self) -> Iterator[ListedBlob]:
        """List the blobs; raises OSError, Stopping."""
        for algorithm in ("sha256", "sha512"):
            with contextlib.suppress(FileNotFoundError):
                yield from self._scan_shards(algorithm)

    def _scan_shards(self, algorithm: str) -> Iterator[ListedBlob]:
        with os.scandir(self._blobs / algorithm) as shards:
            for shard in shards:
                go_on(self._halted)
                if shard.is_dir(follow_symlinks=False):
                    yield from _scan(shard.path, f"{algorithm}:{{}}".format)

    def scan_partials(self) -> Iterator[ListedBlob]:
        """List the partials."""
        return _scan(str(self._partials), lambda name: name.replace("-", ":", 1))

    def scan_quarantine(self) -> Iterator[ListedBlob]:
        """List the quarantined files."""
        return _scan(str(self._quarantine), lambda name: name.replace("-", ":", 1))


def _unlink(digests: Iterable[Digest], path_of: Callable[[Digest], Path]) -> dict[Digest, OSError]:
    failed: dict[Digest, OSError] = {}
    for digest in digests:
        try:
            path_of(digest).unlink(missing_ok=True)
        except OSError as error:
            failed[digest] = error
    return failed


def _scan(folder: str, name_of: Callable[[str], str]) -> Iterator[ListedBlob]:
    """List a folder, skipping files not named after a digest."""
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                digest = Digest.parse(name_of(entry.name))
                status = entry.stat(follow_symlinks=False)
            except (DigestInvalid, FileNotFoundError):
                continue
            yield ListedBlob(digest, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
