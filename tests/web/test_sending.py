"""Bodies for clients: the loop waits for no disk, and no client has a whole copy in memory."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import os
import socket
import threading
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import pytest
from aiohttp import web

from mirror.oci import media
from mirror.oci.digest import Digest
from mirror.web.sending import ClientStream
from tests.standin import Blob, Fault, Hub, Index, make_image
from tests.support.mirror import Mirror, Run
from tests.support.waiting import until

REPOSITORY = "library/large"
SIZE = 12_000_000


@pytest.fixture
def layer(hub: Hub) -> Blob:
    """A layer that no socket buffer takes."""
    image = make_image(60, [SIZE])
    hub.add(image, REPOSITORY, "latest")
    return image.layers[0]


async def forgotten(mirror: Mirror, layer: Blob) -> None:
    """Keep a layer on the disk alone, as far as the kernel allows."""
    await mirror.blob(REPOSITORY, layer.digest)
    await mirror.settled()
    path = mirror.folder.blob(layer.digest)
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        if in_memory(file, 0, SIZE):
            pytest.skip("this file system keeps all in memory")
    finally:
        os.close(file)


def in_memory(file: int, start: int, count: int) -> bool:
    """Whether all of a span can be read without waiting."""
    try:
        return os.preadv(file, [bytearray(count)], start, os.RWF_NOWAIT) == count
    except OSError:
        return False


async def test_no_page_that_is_on_the_disk_is_waited_for_on_the_loop(
    run: Run, layer: Blob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither sendfile nor a read waits for the disk on the loop."""
    real_sendfile, real_preadv = os.sendfile, os.preadv
    waited_for: list[int] = []
    loop = threading.get_ident()

    def sendfile(out: int, file: int, start: int, count: int) -> int:
        if not in_memory(file, start, count):
            waited_for.append(start)
        return real_sendfile(out, file, start, count)

    def preadv(file: int, into: list[bytearray], start: int, flags: int = 0) -> int:
        if not flags and threading.get_ident() == loop:
            waited_for.append(start)
        return real_preadv(file, into, start, flags)

    async with run() as mirror:
        await forgotten(mirror, layer)
        monkeypatch.setattr(os, "sendfile", sendfile)
        monkeypatch.setattr(os, "preadv", preadv)
        got = await mirror.blob(REPOSITORY, layer.digest)
    assert got.body == layer.read()
    assert waited_for == []


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOMEM, errno.EOPNOTSUPP])
async def test_where_sendfile_is_of_no_use_each_reads_from_its_own_place(
    hub: Hub, run: Run, layer: Blob, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A file with many followers has one position: no follower reads by it, or moves it."""
    calls = 0
    real = os.sendfile

    def refuses(out: int, file: int, start: int, count: int) -> int:
        nonlocal calls
        calls += 1
        if calls % 3:
            raise OSError(number, os.strerror(number))
        return real(out, file, start, count)

    gate = asyncio.Event()
    hub.faults.add(Fault(kind="blob", stall_after=SIZE // 2, until=gate))
    monkeypatch.setattr(os, "sendfile", refuses)
    async with run() as mirror:
        asking = [asyncio.create_task(mirror.blob(REPOSITORY, layer.digest)) for _ in range(8)]
        await until(lambda: mirror.daemon.fetches.followers == 8)
        gate.set()
        for got in await asyncio.gather(*asking):
            assert got.body == layer.read()
        assert (await mirror.blob(REPOSITORY, layer.digest)).body == layer.read()


async def test_a_file_system_that_cannot_tell_is_read_on_threads(
    run: Run, layer: Blob, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.preadv

    def cannot_tell(file: int, into: list[bytearray], start: int, flags: int = 0) -> int:
        if flags:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        return real(file, into, start)

    async with run() as mirror:
        await mirror.blob(REPOSITORY, layer.digest)
        monkeypatch.setattr(os, "preadv", cannot_tell)
        assert (await mirror.blob(REPOSITORY, layer.digest)).body == layer.read()


async def test_a_file_that_is_cut_while_it_is_sent_is_no_whole_answer(
    run: Run, layer: Blob
) -> None:
    async with run() as mirror:
        await mirror.blob(REPOSITORY, layer.digest)
        await mirror.settled()
        path = mirror.folder.blob(layer.digest)
        with connect(mirror, layer) as client:
            await asyncio.get_running_loop().sock_recv(client, 1000)
            os.truncate(path, SIZE // 2)
            assert await received(client) < SIZE


async def test_what_is_in_memory_is_not_copied_for_who_does_not_read() -> None:
    body, most = bytes(64 * 1024**2), []
    ended = asyncio.Event()

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        transport = request.transport
        assert transport is not None
        sending = asyncio.create_task(ClientStream(request.writer, transport).memory(body))
        for _ in range(100):
            await asyncio.sleep(0)
            most.append(transport.get_write_buffer_size())
        transport.abort()
        with pytest.raises(ConnectionError):
            await sending
        ended.set()
        raise ConnectionResetError

    runner = web.ServerRunner(web.Server(serve))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    _, writer = await asyncio.open_connection(*runner.addresses[0], limit=1)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    async with asyncio.timeout(10):
        await ended.wait()
    writer.close()
    await runner.cleanup()
    assert 0 < max(most) <= 32 * 1024


async def test_those_who_read_nothing_of_a_large_manifest_share_one_copy(
    hub: Hub, mirror: Mirror
) -> None:
    """A large manifest is read from the disk for each request, and held for none of them alone."""
    document = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": []}
    body = json.dumps(document | {"annotations": {"x": "y" * 3_900_000}}).encode()
    path = f"/v2/{REPOSITORY}/manifests/{push(hub, body, media.OCI_INDEX)}"
    assert (await mirror.ask(path)).body == body
    before = resident()
    with ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(asking(mirror, path))
        for _ in range(3):
            assert (await mirror.ask(path)).body == body
        assert resident() - before < 60 * 1024**2  # and not 234


async def test_slow_readers_of_many_large_manifests_cost_one_copy_of_each(
    hub: Hub, mirror: Mirror
) -> None:
    """The manifests are more than memory keeps, so each reader has its own read from the disk."""
    paths = []
    for number in range(12):
        document = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": []}
        note = {"annotations": {"x": str(number) + "y" * 3_900_000}}
        digest = push(hub, json.dumps(document | note).encode(), media.OCI_INDEX)
        paths.append(f"/v2/{REPOSITORY}/manifests/{digest}")
        assert (await mirror.ask(paths[-1], "GET")).status == 200
    before = large_objects()
    with ExitStack() as stack:
        for _ in range(4):
            for path in paths:
                client = stack.enter_context(asking(mirror, path))
                async with asyncio.timeout(10):
                    assert await asyncio.get_running_loop().sock_recv(client, 100)
        # the manifests read last are kept in memory: four, and one on its way
        assert large_objects() - before <= len(paths) + 5


def large_objects() -> int:
    """Count the byte strings of more than a megabyte that any object holds."""
    held = chain.from_iterable(map(gc.get_referents, gc.get_objects()))
    return len({id(each) for each in held if type(each) is bytes and len(each) > 1_000_000})


def push(hub: Hub, body: bytes, media_type: str) -> str:
    """Let upstream have these bytes as a manifest; returns the digest."""
    digest = str(Digest.of(body))
    hub.add(Index(body, media_type, digest, ()), REPOSITORY)
    return digest


def resident() -> int:
    """Return the bytes of memory of this process."""
    [line] = [x for x in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in x]
    return int(line.split()[1]) * 1024


def connect(mirror: Mirror, layer: Blob) -> socket.socket:
    """Ask for a layer, and read little."""
    return asking(mirror, f"/v2/{REPOSITORY}/blobs/{layer.digest}")


def asking(mirror: Mirror, path: str) -> socket.socket:
    """Ask for a path, and read little."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(tuple(mirror.daemon.address))
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    client.setblocking(False)
    return client


async def received(client: socket.socket) -> int:
    """Count bytes until the connection ends."""
    got = 0
    async with asyncio.timeout(10):
        try:
            while data := await asyncio.get_running_loop().sock_recv(client, 1 << 20):
                got += len(data)
        except ConnectionError:
            pass
    return got


async def turn() -> None:
    """Let the loop turn once."""
    await asyncio.sleep(0)
