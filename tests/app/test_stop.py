"""A stop: signals, the grace for running transfers, and the messages to systemd."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.storage.blobs.filesystem import open_filesystem
from mirror.storage.metadata.rows import LinkRow
from mirror.storage.metadata.sqlite.store import open_sqlite
from mirror.storage.startup import open_store
from tests.standin import Blob, Fault, Hub, Image, make_image
from tests.support.command import (
    NOBODY,
    Command,
    Supervisor,
    fetch,
    launched,
    serving,
    supervisor,
    until_there,
)
from tests.support.folder import DataFolder
from tests.torture import disk

REPOSITORY = "library/big"
SIZE = 4_000_000


@pytest.fixture
def layer(hub: Hub) -> Blob:
    """A layer of some megabytes that the hub has in `library/big`."""
    image = make_image(7, [SIZE])
    hub.add(image, REPOSITORY, "latest")
    return image.layers[0]


@asynccontextmanager
async def stopping_amid_a_transfer(
    command: Command, systemd: Supervisor, layer: Blob
) -> AsyncIterator[aiohttp.ClientResponse]:
    """Stop the mirror while a client waits for more of a blob; yields the client's side."""
    url = f"{await command.address()}/v2/{REPOSITORY}/blobs/{layer.digest}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        await response.content.readexactly(SIZE // 4)
        command.send(signal.SIGTERM)
        await systemd.hears("STOPPING=1")
        yield response


def options(hub: Hub, grace: float) -> tuple[str, ...]:
    """Return the flags for a mirror of the hub."""
    return ("--upstream", f"docker.io={hub.url}", "--shutdown-grace", str(grace))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_it_quickly_and_cleanly(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with serving(tmp_path / "data", "--upstream", NOBODY) as command:
        url = await command.address()
        async with aiohttp.ClientSession() as idle, idle.get(f"{url}/v2/") as response:
            await response.read()  # the connection stays open: it must not delay the stop
            command.send(number)
            ended = await command.ended(within=5)
    assert ended.code == 0
    assert "Traceback" not in ended.err
    assert "ERROR" not in ended.err


async def test_a_running_transfer_is_finished_within_the_grace(
    hub: Hub, tmp_path: Path, layer: Blob
) -> None:
    go = asyncio.Event()
    hub.faults.add(Fault(kind="blob", stall_after=SIZE // 2, until=go))
    with supervisor() as systemd:
        async with serving(tmp_path / "data", *options(hub, 60), env=systemd.env) as command:
            url = await command.address()
            async with stopping_amid_a_transfer(command, systemd, layer) as response:
                with pytest.raises(aiohttp.ClientConnectorError):
                    await fetch(f"{url}/v2/")  # no new client is let in
                go.set()
                assert await response.read() == layer.read()[SIZE // 4 :]
            ended = await command.ended(within=5)
    assert ended.code == 0
    assert f"bytes={layer.size} " in ended.err  # the transfer's line was still written


async def test_an_answer_that_is_begun_reaches_a_slow_client_whole(
    hub: Hub, tmp_path: Path
) -> None:
    image = make_image(8, [1] * 150)  # its manifest is large, and is kept in memory
    hub.add(image, REPOSITORY, "latest")
    path = f"/v2/{REPOSITORY}/manifests/{image.digest}"
    with supervisor() as systemd:
        async with serving(tmp_path / "data", *options(hub, 60), env=systemd.env) as command:
            url = URL(await command.address())
            assert await fetch(f"{url}{path}") == (200, image.manifest)
            clients = await _crowd(url, path)
            command.send(signal.SIGTERM)
            await systemd.hears("STOPPING=1")
            ending = asyncio.create_task(command.ended(within=60))
            for client in clients:
                await asyncio.wait([ending], timeout=0.1)
                body = await _read(client)
                assert body.count(b"HTTP/1.1 200") == body.count(image.manifest)
            assert (await ending).code == 0


async def _crowd(url: URL, path: str) -> list[socket.socket]:
    """Have clients ask without reading, each for less than the client before.

    The kernel's buffers take some of it, and the daemon's some more: for one of the clients the
    daemon holds the end of the answer, and can only wait.
    """
    clients = [await _asking(url, path, times) for times in range(16, 0, -1)]
    for _ in range(50):
        assert (await fetch(f"{url}/healthz"))[0] == 200
    return clients


async def _asking(url: URL, path: str, times: int) -> socket.socket:
    """Ask `times` times, on a connection with a small receive buffer."""
    loop, client = asyncio.get_running_loop(), socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    await loop.sock_connect(client, (str(url.host), url.port))
    request = f"GET {path} HTTP/1.1\r\nHost: {url.authority}\r\n\r\n".encode()
    await loop.sock_sendall(client, request * times)
    return client


async def _read(client: socket.socket) -> bytes:
    """Read until the connection ends."""
    loop, body = asyncio.get_running_loop(), bytearray()
    with client, suppress(ConnectionResetError):
        while data := await loop.sock_recv(client, 65536):
            body += data
    return bytes(body)


async def test_a_transfer_beyond_the_grace_is_cut_and_resumed_by_the_next_daemon(
    hub: Hub, tmp_path: Path, layer: Blob
) -> None:
    hub.faults.add(Fault(kind="blob", stall_after=SIZE // 2))
    with supervisor() as systemd:
        async with serving(tmp_path / "data", *options(hub, 0.5), env=systemd.env) as command:
            async with stopping_amid_a_transfer(command, systemd, layer) as response:
                began = time.monotonic()
                with pytest.raises(aiohttp.ClientPayloadError):
                    await response.read()
                assert time.monotonic() - began > 0.4
            assert (await command.ended(within=5)).code == 0
    async with serving(tmp_path / "data", *options(hub, 0.5)) as command:
        url = f"{await command.address()}/v2/{REPOSITORY}/blobs/{layer.digest}"
        assert await fetch(url) == (200, layer.read())
    assert hub.blob_bytes(layer.digest) < SIZE * 1.3  # stored bytes were not sent again


@pytest.mark.parametrize(("grace", "within"), [(0, 2), (4, 7)])
async def test_the_grace_of_a_stop_lasts_for_once(
    hub: Hub, tmp_path: Path, layer: Blob, grace: float, within: float
) -> None:
    hub.faults.add(Fault(kind="blob", stall_after=SIZE // 2))
    with supervisor() as systemd:
        async with (
            serving(tmp_path / "data", *options(hub, grace), env=systemd.env) as command,
            stopping_amid_a_transfer(command, systemd, layer),
        ):
            assert (await command.ended(within)).code == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("times", [1, 2])
async def test_a_second_signal_cuts_the_grace_and_loses_nothing(
    hub: Hub, tmp_path: Path, layer: Blob, number: signal.Signals, times: int
) -> None:
    kept = make_image(9, [SIZE])
    hub.add(kept, "library/kept", "latest")
    with supervisor() as systemd:
        async with serving(tmp_path / "data", *options(hub, 600), env=systemd.env) as command:
            await _pulled(await command.address(), "library/kept", kept)
            hub.faults.add(Fault(kind="blob", stall_after=SIZE // 2))
            async with (
                followers(f"{await command.address()}/v2/{REPOSITORY}/blobs/{layer.digest}", 32),
                stopping_amid_a_transfer(command, systemd, layer),
            ):
                for _ in range(times):
                    command.send(number)
                ended = await command.ended(within=3)
    assert ended.code == 0
    assert "Traceback" not in ended.err
    assert "ERROR" not in ended.err
    assert disk.rows(tmp_path / "data").sizes == {blob.digest: blob.size for blob in _all(kept)}
    assert _ledger(tmp_path / "data") == hub.pulls == 1
    hub.faults.clear()
    async with serving(tmp_path / "data", *options(hub, 600)) as command:
        url = f"{await command.address()}/v2"
        assert await fetch(f"{url}/{REPOSITORY}/blobs/{layer.digest}") == (200, layer.read())
        for blob in kept.blobs:
            assert await fetch(f"{url}/library/kept/blobs/{blob.digest}") == (200, blob.read())
        assert "damaged" not in command.err
    assert hub.blob_bytes(layer.digest) < SIZE * 1.3  # stored bytes were not sent again
    assert [hub.bodies(blob.digest) for blob in kept.blobs] == [1] * len(kept.blobs)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals_without_end_do_not_change_how_it_ends(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with serving(tmp_path / "data", "--upstream", NOBODY) as command:
        await command.address()
        ending = asyncio.create_task(command.ended())
        while not ending.done():  # until the process has ended
            with suppress(ProcessLookupError):
                os.kill(command.pid, number)  # `send` would take its exit code from asyncio
            await asyncio.wait([ending], timeout=0.001)
    assert ending.result().code == 0
    assert "Traceback" not in ending.result().err


SILENT = """
import pathlib, socket, time
true = socket.getaddrinfo
def getaddrinfo(host, *args, **more):
    if host == "name.silent":
        pathlib.Path({asked!r}).touch()
        time.sleep(60)
    return true(host, *args, **more)
socket.getaddrinfo = getaddrinfo
"""


async def test_a_stop_waits_for_no_name_server(tmp_path: Path) -> None:
    """If a name server leaves a question unanswered, the system asks again for half a minute."""
    asked = tmp_path / "asked"
    (tmp_path / "sitecustomize.py").write_text(SILENT.format(asked=str(asked)))
    env = {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    flags = ("--upstream", "docker.io=http://name.silent", "--shutdown-grace", "0")
    async with serving(tmp_path / "data", *flags, env=env) as command:
        url = f"{await command.address()}/v2/library/some/manifests/latest"
        asking = asyncio.create_task(fetch(url))
        await asyncio.to_thread(until_there, asked)
        command.send(signal.SIGTERM)
        ended = await command.ended(within=3)
        await asyncio.wait([asking])
    assert isinstance(asking.exception(), aiohttp.ClientError)
    assert ended.code == 0
    assert "Traceback" not in ended.err


@asynccontextmanager
async def followers(url: str, number: int) -> AsyncIterator[None]:
    """Have so many clients in the middle of the same blob."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, AsyncExitStack() as stack:
        for _ in range(number):
            response = await stack.enter_async_context(session.get(url))
            await response.content.readexactly(SIZE // 4)
        yield


async def _pulled(url: str, repository: str, image: Image) -> None:
    """Pull all of an image."""
    path = f"{url}/v2/{repository}"
    assert await fetch(f"{path}/manifests/latest") == (200, image.manifest)
    for blob in image.blobs:
        assert await fetch(f"{path}/blobs/{blob.digest}") == (200, blob.read())


def _all(image: Image) -> list[Blob]:
    return [*image.blobs, Blob.of(image.manifest)]


def _ledger(folder: Path) -> int:
    """Count the pulls in the ledger of a mirror that has ended."""
    return DataFolder(folder).count("pull")


@pytest.mark.parametrize("name", ["", "mirror-test-notify"], ids=["path", "abstract"])
async def test_systemd_is_told_when_it_serves_and_when_it_stops(tmp_path: Path, name: str) -> None:
    with supervisor(name) as systemd:
        flags = ("--upstream", NOBODY)
        async with serving(tmp_path / "data", *flags, env=systemd.env) as command:
            await systemd.hears("READY=1")
            url = await command.address()  # READY follows the greeting, and the mirror serves
            assert (await fetch(f"{url}/readyz"))[0] == 200
            command.send(signal.SIGTERM)
            await systemd.hears("STOPPING=1")
            assert (await command.ended()).code == 0


async def test_the_watchdog_is_fed_also_while_it_stops(
    hub: Hub, tmp_path: Path, layer: Blob
) -> None:
    hub.faults.add(Fault(kind="blob", stall_after=SIZE // 2))
    with supervisor() as systemd:
        env = systemd.env | {"WATCHDOG_USEC": "200000"}
        async with serving(tmp_path / "data", *options(hub, 60), env=env) as command:
            await systemd.hears("WATCHDOG=1", times=3, within=20)
            async with stopping_amid_a_transfer(command, systemd, layer):
                await systemd.hears("WATCHDOG=1", times=3, within=20)


async def test_a_supervisor_that_has_gone_keeps_it_from_nothing(tmp_path: Path) -> None:
    env = {"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "200000"}
    async with serving(tmp_path / "data", "--upstream", NOBODY, env=env) as command:
        assert (await fetch(f"{await command.address()}/readyz"))[0] == 200
        command.send(signal.SIGTERM)
        assert (await command.ended()).code == 0


@pytest.mark.parametrize("turns", range(6))
async def test_a_stop_is_heard_though_something_is_to_be_written_at_that_moment(
    tmp_path: Path, turns: int
) -> None:
    """The write wakes the bookkeeping task some turns of the loop before the stop does."""
    store = await open_store(tmp_path, 8 * 1024**2, open_filesystem, open_sqlite)
    keeper = asyncio.create_task(store.keep_books())
    await asyncio.sleep(0)
    store.index.put_link(LinkRow(Digest.of(b"some"), Repository("docker.io", "library/some")))
    for _ in range(turns):
        await asyncio.sleep(0)
    keeper.cancel()
    done, _ = await asyncio.wait([keeper], timeout=1)
    keeper.cancel()
    await store.close()
    assert done


async def test_a_signal_that_means_no_end_is_none(tmp_path: Path) -> None:
    """A script for another daemon may send it; each once ended the mirror, SIGHUP as a failure."""
    async with serving(tmp_path / "data", "--upstream", NOBODY) as command:
        url = await command.address()
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            command.send(number)
            assert (await fetch(f"{url}/healthz"))[0] == 200
        command.send(signal.SIGTERM)
        assert (await command.ended(within=10)).code == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_before_the_loop_ends_the_start_in_order(
    tmp_path: Path, number: signal.Signals
) -> None:
    program = (
        "import os, sys\nfrom mirror.app import deferred_signals\nfrom mirror.cli import main\n"
        f"deferred_signals.defer()\nos.kill(os.getpid(), {number.value})\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    words = ("serve", "--data-dir", tmp_path / "data", "--listen", "127.0.0.1:0")
    async with launched(*words, command=[sys.executable, "-c", program]) as command:
        ended = await command.ended(within=30)
    assert (ended.code, "Traceback" in ended.err) == (0, False)


async def test_a_stop_names_its_transfers_their_grace_its_cuts_and_its_end(
    hub: Hub, tmp_path: Path, layer: Blob
) -> None:
    hub.faults.add(Fault(kind="blob", stall_after=SIZE // 2))
    path = f"/v2/{REPOSITORY}/blobs/{layer.digest}"
    with supervisor() as systemd:
        async with (
            serving(tmp_path / "data", *options(hub, 1), env=systemd.env) as command,
            followers(f"{await command.address()}{path}", 2),
            stopping_amid_a_transfer(command, systemd, layer),
        ):
            ended = await command.ended(within=10)
    assert "stopping: 3 transfers have 1 s" in ended.err
    cut = [line for line in ended.err.splitlines() if " cut: " in line]
    how = re.compile(r"cut: 127\.0\.0\.1, GET (\S+), after \d\.\d MiB of 3\.8 MiB request=(\S+)$")
    told = [found.groups() for line in cut if (found := how.search(line))]
    lines = [access_line(line) for line in ended.err.splitlines() if f" target={path} " in line]
    assert len(cut) == len(told) == len(lines) == 3
    assert {target for target, _ in told} == {path}
    assert {request for _, request in told} == {line["request"] for line in lines}
    for line in lines:
        assert SIZE // 4 <= int(line["bytes"]) <= SIZE // 2
        assert line["error"] == '"cut: the mirror stopped"'
    assert f" the download of {layer.digest} ends after 1." in ended.err
    assert ended.err.rstrip().endswith(" stopped")
    assert ended.code == 0


async def test_a_request_that_is_cut_before_its_answer_began_has_its_line(
    hub: Hub, tmp_path: Path, layer: Blob
) -> None:
    hub.faults.add(Fault(kind="manifest", hang=True))
    async with serving(tmp_path / "data", *options(hub, 0.2), "--limit-check", "0") as command:
        url = f"{await command.address()}/v2/{REPOSITORY}/manifests/latest"
        asking = asyncio.create_task(fetch(url))
        await hub.journal.wait(lambda seen: seen.kind == "manifest")
        command.send(signal.SIGTERM)
        ended = await command.ended(within=10)
        await asyncio.wait([asking])
    [line] = [access_line(line) for line in ended.err.splitlines() if " target=/v2/" in line]
    assert (line["bytes"], line["outcome"]) == ("0", "error")
    assert "stopping: 1 transfer has 0.2 s" in ended.err
    assert f"GET /v2/{REPOSITORY}/manifests/latest, before its first byte" in ended.err


async def test_a_client_that_had_not_taken_all_of_its_answer_is_named(
    hub: Hub, tmp_path: Path
) -> None:
    image = make_image(8, [1] * 150)
    hub.add(image, REPOSITORY, "latest")
    path = f"/v2/{REPOSITORY}/manifests/{image.digest}"
    async with serving(tmp_path / "data", *options(hub, 0.2)) as command:
        url = URL(await command.address())
        assert await fetch(f"{url}{path}") == (200, image.manifest)
        clients = await _crowd(url, path)
        command.send(signal.SIGTERM)
        ended = await command.ended(within=10)
        for client in clients:
            client.close()
    told = re.findall(r"cut: 127\.0\.0\.1, which had not taken the last (\S+)", ended.err)
    whole = re.findall(r"cut: 127\.0\.0\.1, GET", ended.err)
    assert told
    assert f"stopping: {len(told) + len(whole)} transfers have 0.2 s" in ended.err


async def test_a_stop_with_nothing_to_send_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path / "data", "--upstream", NOBODY) as command:
        await command.address()
        command.send(signal.SIGTERM)
        ended = await command.ended()
    assert [line.rpartition(": ")[2] for line in ended.err.splitlines()[-2:]] == [
        "nothing is being sent",
        "stopped",
    ]


def access_line(line: str) -> dict[str, str]:
    """Read a line of the access log."""
    return dict(re.findall(r' (\w+)=("(?:[^"\\]|\\.)*"|\S+)', line))
