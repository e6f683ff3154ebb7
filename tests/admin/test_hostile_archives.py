"""An archive that arrives holds up no other task of the mirror, and takes little memory."""

from __future__ import annotations

import tarfile
import tracemalloc
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import pytest

from mirror.admin.archives.archive_source import ArchiveSource
from mirror.admin.archives.arriving import files
from mirror.admin.archives.tar_headers import BLOCK, TarHeaders
from mirror.admin.messages import OrderInvalid
from mirror.oci.layout import LayoutInvalid
from mirror.storage.blobs.filesystem import open_filesystem
from mirror.storage.startup import open_store
from tests.support.memory_metadata import open_memory
from tests.support.turns import turns_of


def member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE) -> bytes:
    """Return a member of an archive."""
    info = tarfile.TarInfo(name)
    info.size, info.type = len(data), kind
    return info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % BLOCK)


def reader(pieces: Iterable[bytes]) -> Callable[[], Awaitable[bytes]]:
    """Return the reader of an archive that has arrived: it waits for nothing."""
    left = iter(pieces)

    async def read() -> bytes:
        return next(left, b"")

    return read


async def names(archive: bytes) -> int:
    """Read an archive; returns the number of its files."""
    return len([file.path async for file in files(reader([archive]))])


async def test_many_small_files_let_other_tasks_run() -> None:
    count, turns = await turns_of(names(b"".join(member(str(number)) for number in range(640))))
    assert count == 640
    assert turns >= 5


@pytest.mark.parametrize("record", [b"3 \n", b"6 a=b\n"])
async def test_a_header_of_very_many_records_is_refused(record: bytes) -> None:
    archive = member("x", record * 10_000, tarfile.XHDTYPE) + member("file")
    with pytest.raises(LayoutInvalid, match="pax header is invalid"):
        await names(archive)


async def test_a_large_index_is_read_while_other_tasks_run(tmp_path: Path) -> None:
    index = b'{"manifests":[' + b",".join([b"{}"] * 80_000) + b"]}"
    source = ArchiveSource(reader([member("index.json", index)]))

    store = await open_store(tmp_path, 8 * 1024**2, open_filesystem, open_memory)

    async def refused() -> None:
        with pytest.raises(OrderInvalid, match="more than 4096 images"):
            await source.images(store)

    try:
        _, turns = await turns_of(refused())
    finally:
        await store.close()
    assert turns > 0


def named(headers: TarHeaders, name: bytes) -> None:
    """Read the headers of a file with a long name."""
    extended = headers.read(member("x", name, tarfile.GNUTYPE_LONGNAME)[:BLOCK], 0)
    assert extended is not None
    headers.extend(extended, name)
    headers.read(member("file")[:BLOCK], 0)


def test_the_names_of_files_take_little_memory() -> None:
    headers, long = TarHeaders(), "x" * 60_000
    tracemalloc.start()
    try:
        for number in range(200):
            named(headers, f"{number}{long}".encode())
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000_000
    with pytest.raises(LayoutInvalid, match="twice"):
        named(headers, f"7{long}".encode())
