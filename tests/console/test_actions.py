"""Actions of operators: each leaves its result in the log, and none begins as the mirror stops."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from contextlib import AsyncExitStack

import pytest
from aiohttp import encode_basic_auth

from tests.standin import Fault, Hub, Image, make_image
from tests.support.mirror import Mirror, Run
from tests.support.waiting import until

TOKEN = "a-token-of-more-than-16"
OPERATORS = {"clients": {"ci": {"token": TOKEN}}, "operators": "ci"}
CI = encode_basic_auth("ci", TOKEN)
NGINX = "/api/v1/images/docker.io/library/nginx:latest"
ENDED = re.compile(r"order of ci at 127\.0\.0\.1 ended after (\d+\.\d{3}) s, (.+): (\S+ \S+)$")


def ended(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Return the result and the order of each logged end of an action."""
    lines = (record.getMessage() for record in caplog.records)
    return [(found[2], found[3]) for line in lines if (found := ENDED.fullmatch(line))]


async def test_an_action_is_logged_as_it_begins_and_with_its_result(
    run: Run, image: Image, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with run(**OPERATORS) as mirror:
        await mirror.pull("library/nginx", "latest", image)
        for action in ("refresh", "purge", "purge"):
            await mirror.ask(f"{NGINX}/{action}", "POST", Authorization=CI)
    begun = [each.getMessage() for each in caplog.records if "order of" in each.getMessage()]
    assert begun[0] == "order of ci at 127.0.0.1: refresh docker.io/library/nginx:latest"
    (refreshed, first), (purged, second), (refused, third) = ended(caplog)
    assert first == "refresh docker.io/library/nginx:latest"
    assert second == third == "purge docker.io/library/nginx:latest"
    assert json.loads(refreshed)["images"][0]["digest"] == image.digest
    assert json.loads(purged)["tags"] == 1
    assert json.loads(refused)["kind"] == "refused"


async def test_an_action_whose_client_leaves_is_logged_as_broken_off(
    run: Run, hub: Hub, image: Image, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    hub.faults.add(Fault(kind="blob", times=None, hang=True))
    async with run(**OPERATORS) as mirror:
        path = f"{NGINX}/warm"
        async with mirror.request(path, "POST", {"Authorization": CI}) as stream:
            assert await stream.content.readline()
        await until(lambda: bool(ended(caplog)))
    assert ended(caplog) == [("broken off", "warm 'docker.io/library/nginx:latest'")]


@pytest.mark.parametrize(
    "name",
    [
        "x%0aorder%20of%20root%20at%20::1:%20gc",
        "x%0d%0aorder%20of%20root%20at%20::1",
        "x%e2%80%a8order%20of%20root",
        "x%20ended%20after%201%20s,%20{}:%20gc",
        "x%1b[2K%1b[1Gorder",
    ],
)
async def test_no_name_in_an_order_forges_a_line_of_the_log(
    run: Run, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with run(**OPERATORS) as mirror:
        for action in ("refresh", "pin", "purge"):
            path = f"/api/v1/images/docker.io/library/{name}/{action}"
            assert (await mirror.ask(path, "POST", Authorization=CI)).status in (400, 404)
    lines = [each.getMessage() for each in caplog.records if "order of" in each.getMessage()]
    assert lines
    for line in lines:
        assert line.isprintable()
        assert line.startswith("order of ci at 127.0.0.1")
        if "s, {" in line:
            json.JSONDecoder().raw_decode(line.partition(" s, ")[2])


async def raw(address: str, method: str, path: str) -> bytes:
    """Ask on a connection that belongs to no session; returns the answer."""
    reader, writer = await asyncio.open_connection(*address.split(":"))
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    writer.write(f"{head}Authorization: {CI}\r\nContent-Length: 0\r\n\r\n".encode())
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return answer


async def reading_nothing(stack: AsyncExitStack, mirror: Mirror, path: str) -> None:
    """Begin a transfer to a client that reads nothing: a stop waits for such a transfer."""
    client = stack.enter_context(socket.socket())
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, tuple(mirror.daemon.address))
    await loop.sock_sendall(client, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert await loop.sock_recv(client, 12) == b"HTTP/1.1 200"


async def test_no_action_begins_in_the_grace_of_a_stop_and_its_client_is_told(
    run: Run, hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    image = make_image(7, [20_000_000])
    hub.add(image, "library/large", "1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        apart = f"127.0.0.1:{server.getsockname()[1]}"
    async with AsyncExitStack() as stack:
        running = AsyncExitStack()
        mirror = await running.enter_async_context(
            run(**OPERATORS, admin_listen=apart, shutdown_grace=20)
        )
        await mirror.pull("library/large", "1", image)
        await reading_nothing(stack, mirror, f"/v2/library/large/blobs/{image.layers[0].digest}")
        stop = asyncio.create_task(running.aclose())
        await until(lambda: "stopping" in caplog.text)
        purge = "/api/v1/images/docker.io/library/large:1/purge"
        answer = await raw(apart, "POST", purge)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"the mirror is stopping: no action begins any more" in answer
        assert (await raw(apart, "GET", "/api/v1/status")).startswith(b"HTTP/1.1 200 ")
        assert not stop.done()
    async with asyncio.timeout(20):
        await stop
    assert "order of" not in caplog.text
