"""A client harms only itself, however it treats its connections."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Awaitable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from mirror.web.connections.client_connections import ClientConnections, listen
from mirror.web.connections.per_client import ConnectionsByClient
from tests.standin import Blob, Fault, Hub, make_image
from tests.support.clock import Clock
from tests.support.command import fetch, serving
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


def connect(mirror: Mirror, said: str = "", *, receive: int | None = None) -> socket.socket:
    """Open a connection, send a text, and then do nothing."""
    client = socket.socket()
    if receive is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    client.connect(tuple(mirror.daemon.address))
    client.sendall(said.encode())
    return client


def question(layer: Blob) -> str:
    return f"GET /v2/{REPOSITORY}/blobs/{layer.digest} HTTP/1.1\r\nHost: mirror\r\n\r\n"


async def connections(mirror: Mirror) -> int:
    metrics = (await mirror.ask("/metrics")).body.decode()
    [line] = [line for line in metrics.splitlines() if line.startswith("mirror_connections ")]
    return int(float(line.split()[1])) - 1  # without the connection of this request


def blobs_open() -> int:
    """Count this process's descriptors of blobs and partials."""
    names = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            names.append(str(entry.readlink()))
        except FileNotFoundError:  # the folder's own
            continue
    return sum("/blobs/" in name or "/partial/" in name for name in names)


@pytest.mark.parametrize(
    ("patience", "kernels"), [(60, 60_000), (0.0001, 1), (0, 0), (12 * 7 * 86400, 2**31 - 1)]
)
def test_a_client_gets_as_much_time_as_the_kernel_counts(patience: float, kernels: int) -> None:
    """A few weeks exceed the kernel's milliseconds, and 0 means the kernel's own time."""
    with listen("127.0.0.1", 0, patience) as listener:
        told = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert told == kernels


@pytest.mark.parametrize("warm", [True, False])
async def test_a_client_that_never_reads_is_let_go(run: Run, layer: Blob, warm: bool) -> None:
    async with run(client_timeout=0.5) as mirror:
        if warm:
            await mirror.blob(REPOSITORY, layer.digest)
        with connect(mirror, question(layer), receive=4096):
            await until(lambda: blobs_open() > 0)
            await until(lambda: _is(connections(mirror), 0))
            await until(lambda: blobs_open() == 0)
        assert (await mirror.blob(REPOSITORY, layer.digest)).body == layer.read()


async def test_a_client_that_reads_slowly_gets_all_of_it(hub: Hub, run: Run) -> None:
    image = make_image(61, [600_000])
    hub.add(image, REPOSITORY, "small")
    slow = image.layers[0]
    async with run(client_timeout=0.5) as mirror:
        got = bytearray()
        with connect(mirror, question(slow), receive=4096) as client:
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            head, _, rest = (await loop.sock_recv(client, 4096)).partition(b"\r\n\r\n")
            got += rest
            while len(got) < slow.size:
                got += await loop.sock_recv(client, 4096)
                await asyncio.sleep(0.01)  # its pace is the point
        assert head.startswith(b"HTTP/1.1 200 ")
        assert bytes(got) == slow.read()


@pytest.mark.parametrize(
    "said", ["", "GET /v2/ HT", "GET /v2/ HTTP/1.1\r\nHost: mirror\r\nX: "], ids=repr
)
async def test_a_client_that_never_finishes_its_request_is_let_go(run: Run, said: str) -> None:
    async with run(idle_timeout=0.3) as mirror:
        with connect(mirror, said):
            await until(lambda: _is(connections(mirror), 1))
            await until(lambda: _is(connections(mirror), 0))


async def test_a_client_that_dribbles_its_request_is_let_go(run: Run) -> None:
    async with run(idle_timeout=0.5) as mirror:
        with connect(mirror, "GET /v2/ HTTP/1.1\r\n") as client:
            client.setblocking(False)
            async with asyncio.timeout(5):
                with pytest.raises(ConnectionError):
                    await dribble(client)


async def dribble(client: socket.socket) -> None:
    """Say one header after the other, without an end."""
    while True:
        await asyncio.get_running_loop().sock_sendall(client, b"X-Slow: loris\r\n")
        await asyncio.sleep(0.05)  # its pace is the point


async def test_beyond_the_bound_the_longest_idle_makes_room(run: Run) -> None:
    async with run(max_connections=50) as mirror:
        with ExitStack() as stack:
            crowd = [stack.enter_context(connect(mirror)) for _ in range(200)]
            assert (await mirror.ask("/v2/")).status == 200
            assert await connections(mirror) <= 50
            last = crowd[-1]
            last.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(last, b"GET /v2/ HTTP/1.1\r\nHost: mirror\r\n\r\n")
            assert (await loop.sock_recv(last, 99)).startswith(b"HTTP/1.1 200 ")
            first = crowd[0]
            first.setblocking(False)
            assert await loop.sock_recv(first, 1) == b""
        metrics = (await mirror.ask("/metrics")).body.decode()
        assert "mirror_connections_shed_total 1" in metrics


async def test_a_connection_with_a_request_under_way_never_makes_room(
    hub: Hub, run: Run, layer: Blob
) -> None:
    gate = asyncio.Event()
    hub.faults.add(Fault(kind="blob", stall_after=SIZE // 2, until=gate))
    async with run(max_connections=3) as mirror:
        busy = [asyncio.create_task(mirror.blob(REPOSITORY, layer.digest)) for _ in range(3)]
        await until(lambda: mirror.daemon.fetches.followers == 3)
        with connect(mirror) as late:
            late.setblocking(False)
            assert await asyncio.get_running_loop().sock_recv(late, 1) == b""
        gate.set()
        for got in await asyncio.gather(*busy):
            assert got.body == layer.read()


async def test_whoever_holds_most_gives_one_up_to_others(run: Run, layer: Blob) -> None:
    async with run(max_connections=10) as mirror:
        await mirror.blob(REPOSITORY, layer.digest)
        await until(lambda: blobs_open() == 0)
        with ExitStack() as stack:
            taken = [stack.enter_context(connect(mirror, question(layer))) for _ in range(10)]
            await until(lambda: blobs_open() == 10)
            for _ in range(3):
                assert (await mirror.ask_from("127.0.0.9", "/healthz")).status == 200
            await until(lambda: blobs_open() == 9)  # its blob was closed
            assert await length(taken[-1]) < SIZE
            assert await length(taken[0]) > SIZE
        got = await mirror.ask("/metrics")
        assert "mirror_connections_shed_total 1.0" in got.body.decode()


async def length(client: socket.socket) -> int:
    """Count bytes until the whole answer is there, or the connection ends."""
    client.setblocking(False)
    got = 0
    with suppress(ConnectionError):
        while got < SIZE and (data := await asyncio.get_running_loop().sock_recv(client, 1 << 20)):
            got += len(data)
    return got


async def test_a_fleet_behind_one_address_is_never_refused(run: Run, layer: Blob) -> None:
    """Connections with a request under way do not count, however few a client may have."""
    async with run(client_connections=3) as mirror:
        await mirror.blob(REPOSITORY, layer.digest)
        got = await asyncio.gather(*(mirror.blob(REPOSITORY, layer.digest) for _ in range(12)))
        assert [each.body for each in got] == [layer.read()] * 12
        assert "mirror_connections_shed_total 0" in (await mirror.ask("/metrics")).body.decode()


class Line(asyncio.Transport):
    """A connection by its address, and whether it has been closed."""

    def __init__(self, address: str) -> None:
        super().__init__({"peername": (address, 1)})
        self.aborted = False

    def abort(self) -> None:
        """Note that the connection is closed."""
        self.aborted = True


def test_beyond_its_bound_a_clients_own_that_have_long_been_idle_make_room() -> None:
    clock = Clock()
    connections = ClientConnections(100, 3, clock)
    lines = [Line("10.0.0.1") for _ in range(6)]
    other = Line("10.0.0.2")
    connections.opened(other, other)
    for line in lines[:5]:
        connections.opened(line, line)
    assert not any(line.aborted for line in lines)  # all were opened at the same time
    clock.now += 5
    connections.opened(lines[5], lines[5])
    assert [line.aborted for line in lines] == [True, True, True, False, False, False]
    assert not other.aborted
    assert (len(connections), connections.shed) == (4, 3)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5))))
def test_the_client_with_most_connections_is_known_at_any_time(
    steps: list[tuple[str, int]],
) -> None:
    crowd: ConnectionsByClient[int] = ConnectionsByClient()
    model: dict[str, list[int]] = {client: [] for client in "abc"}
    for client, connection in steps:
        if connection in model[client]:
            crowd.remove(client, connection)
            model[client].remove(connection)
        else:
            crowd.add(client, connection)
            model[client].append(connection)
        counts = {name: len(held) for name, held in model.items()}
        assert counts == {name: crowd.count(name) for name in model}
        if any(counts.values()):
            largest = crowd.largest()
            assert counts[largest] == max(counts.values())
            assert crowd.newest(largest) == model[largest][-1]
            assert list(crowd.of(largest)) == model[largest]


async def test_a_client_that_leaves_midway_costs_the_next_little(hub: Hub, run: Run) -> None:
    image = make_image(62, [40_000_000])
    hub.add(image, REPOSITORY, "huge")
    huge = image.layers[0]
    hub.faults.add(Fault(kind="blob", rate=20e6))
    async with run(abandon_after=0) as mirror:
        path = f"/v2/{REPOSITORY}/blobs/{huge.digest}"
        async with mirror.request(path) as leaver:
            await leaver.content.readexactly(8_000_000)
        await mirror.settled()
        assert (await mirror.blob(REPOSITORY, huge.digest)).body == huge.read()
    assert hub.blob_bytes(huge.digest) <= 1.1 * huge.size


async def _is(value: Awaitable[int], wanted: int) -> bool:
    return await value == wanted


async def test_ten_thousand_idle_connections_leave_room_for_the_others(
    hub: Hub, tmp_path: Path, layer: Blob
) -> None:
    crowd, bearable = 10_000, 16 * 1024  # bytes of memory a connection
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < crowd + 500:
        pytest.skip(f"no more than {hard} descriptors allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        flags = ("--upstream", f"docker.io={hub.url}", "--client-connections", "0")
        async with serving(tmp_path, *flags) as mirror:
            url = URL(await mirror.address())
            blob = f"{url}/v2/{REPOSITORY}/blobs/{layer.digest}"
            assert await fetch(blob) == (200, layer.read())
            before = resident(mirror.pid)
            with ExitStack() as stack:
                for _ in range(crowd):
                    client = stack.enter_context(socket.socket())
                    client.connect((url.host or "", url.port or 0))
                assert await fetch(blob) == (200, layer.read())
                _, metrics = await fetch(f"{url}/metrics")
                assert b"\nmirror_connections 9" in metrics
                assert resident(mirror.pid) - before < crowd * bearable
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def resident(pid: int) -> int:
    """Return the bytes of memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024
