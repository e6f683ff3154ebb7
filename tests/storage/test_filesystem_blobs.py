"""Blobs in files: errors are named by their meaning for a blob, and no file is left behind."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirror.oci.digest import Digest
from mirror.storage.blobs.files import BlobFiles
from mirror.storage.blobs.filesystem import FilesystemBlobs
from mirror.storage.blobs.partial_file import PartialFile
from mirror.storage.blobs.threads import DiskThreads
from mirror.storage.errors import (
    Damaged,
    NotStored,
    Stopping,
    StorageError,
    Unavailable,
    storage_error,
)
from tests.storage.blob_store_conformance import BODY, DIGEST, take_in
from tests.storage.test_blob_stores import in_files


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[tuple[FilesystemBlobs, DiskThreads]]:
    async with in_files(tmp_path) as made:
        yield made


@pytest.fixture
def filesystem(made: tuple[FilesystemBlobs, DiskThreads]) -> FilesystemBlobs:
    return made[0]


@pytest.fixture
def threads(made: tuple[FilesystemBlobs, DiskThreads]) -> DiskThreads:
    return made[1]


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOENT, NotStored),
        (errno.EIO, Damaged),
        (errno.EISDIR, Damaged),
        (errno.EMFILE, Unavailable),
        (errno.ENOMEM, Unavailable),
        (errno.ENOSPC, StorageError),
        (errno.EACCES, StorageError),
    ],
)
def test_an_error_of_the_system_is_named_by_its_meaning_for_the_blob(
    number: int, kind: type[StorageError]
) -> None:
    error = storage_error(OSError(number, os.strerror(number), "a/file"))
    assert type(error) is kind
    assert error.reason == os.strerror(number)
    assert str(error) == f"{os.strerror(number)} (a/file)"


async def test_the_bytes_of_a_file_are_sent_from_its_descriptor(
    filesystem: FilesystemBlobs,
) -> None:
    await filesystem.write(DIGEST, BODY)
    reader = await filesystem.open(DIGEST)
    assert os.pread(reader.fileno(), 5, 0) == BODY[:5]
    reader.close()


async def test_a_folder_in_a_blobs_place_is_damage(filesystem: FilesystemBlobs) -> None:
    filesystem.files.path(DIGEST).mkdir(parents=True)
    with pytest.raises(Damaged):
        await filesystem.open(DIGEST)


async def test_a_failed_write_is_trouble_until_one_succeeds(
    filesystem: FilesystemBlobs, threads: DiskThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", full)
        with pytest.raises(StorageError, match="No space left"):
            await filesystem.write(DIGEST, BODY)
    assert await filesystem.trouble() == (
        f"cannot write to {filesystem.files.root}: No space left on device"
    )
    await filesystem.probe()
    assert await filesystem.trouble() is None
    assert await filesystem.scan() == []


async def test_a_cancelled_opening_leaves_no_descriptor_and_no_empty_file(
    filesystem: FilesystemBlobs,
    threads: DiskThreads,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, go, opened = threading.Event(), threading.Event(), list[PartialFile]()
    true = BlobFiles.isolated_partial

    def late(files: BlobFiles, digest: Digest, by: DiskThreads) -> PartialFile:
        opened.append(true(files, digest, by))
        begun.set()
        go.wait(10)
        return opened[0]

    monkeypatch.setattr(BlobFiles, "isolated_partial", late)
    opening = asyncio.create_task(filesystem.partial(DIGEST, isolated=True))
    await asyncio.to_thread(begun.wait, 10)
    opening.cancel()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await threads.close()
    assert opened[0]._file.closed
    assert not [*(tmp_path / "partial").iterdir()]


async def test_after_a_stop_nothing_is_begun(
    filesystem: FilesystemBlobs, threads: DiskThreads
) -> None:
    partial = await filesystem.partial(DIGEST)
    await take_in(partial, BODY)
    threads.drop()
    for question in (filesystem.open(DIGEST), partial.commit(), partial.append([b"x"])):
        with pytest.raises(Stopping):
            await question
    assert partial.written == len(BODY)
    partial.close()
