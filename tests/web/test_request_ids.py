"""Request ids: each request has one, in its answer, its log lines and its upstream requests.

An id may be a client's own text: text that could mean something else on the way is not taken.
"""

from __future__ import annotations

import asyncio
import logging
import re
import signal
from pathlib import Path

import pytest
from yarl import URL

from mirror.util.request_id import REQUEST
from tests.standin import Fault, Hub, Image
from tests.support.command import fetch, serving
from tests.support.mirror import Mirror, Run

REPOSITORY = "library/nginx"
OWN = "ci-4711/build.2:a+b@c~d"
MADE = re.compile(r"[0-9a-f]{12}-[0-9a-f]+")


def sent(hub: Hub) -> dict[str, set[str]]:
    """Return the ids in the requests to each port; "" where a request had none."""
    told: dict[str, set[str]] = {"registry": set(), "token": set(), "cdn": set()}
    for seen in hub.journal.entries:
        told[seen.port].add(seen.headers.get("x-request-id", ""))
    return told


async def test_a_requests_id_is_sent_to_the_registry_and_to_no_other_host(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    own = {"X_Request_Id": OWN}
    await mirror.ask(f"/v2/{REPOSITORY}/manifests/latest", **own)
    await mirror.blob(REPOSITORY, image.layers[1].digest, **own)
    assert sent(hub) == {"registry": {OWN}, "token": {""}, "cdn": {""}}


@pytest.mark.parametrize(
    "path",
    [f"/v2/{REPOSITORY}/manifests/latest", "/v2/", "/healthz", "/nothing", "/v2/UPPER/tags/list"],
)
async def test_an_answer_has_the_clients_id(mirror: Mirror, image: Image, path: str) -> None:
    got = await mirror.ask(path, X_Request_Id=OWN)
    assert got.headers.getall("X-Request-Id") == [OWN]


async def test_a_request_without_an_id_gets_one_of_its_own(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    found = [
        (await mirror.manifest(REPOSITORY, "latest")).headers["X-Request-Id"] for _ in range(3)
    ]
    assert all(MADE.fullmatch(each) for each in found)
    assert len(set(found)) == 3
    assert sent(hub)["registry"] == {found[0]}  # the other requests asked upstream for nothing


@pytest.mark.parametrize(
    "told",
    [
        b"",
        b"a b",
        b"a,b",
        b"a\tb",
        b'a"b',
        b"a=b",
        b"a;b",
        b"a%0d%0ab",
        b"\xc3\xa9",
        b"<script>",
        b"x" * 129,
        b"x" * 5000,
    ],
    ids=lambda told: repr(told[:12]),
)
async def test_an_id_that_could_mean_something_else_is_not_taken(
    hub: Hub, mirror: Mirror, image: Image, told: bytes
) -> None:
    head = await ask_raw(mirror, b"X-Request-Id: " + told + b"\r\n")
    [found] = re.findall(rb"(?im)^X-Request-Id: (.*)\r$", head)
    assert MADE.fullmatch(found.decode())
    assert sent(hub)["registry"] == {found.decode()}


@pytest.mark.parametrize("told", [b"a\rX-Evil: 1", b"a\x00b", b"a\x7fb", b"a\x1bb"], ids=repr)
async def test_control_characters_reach_neither_upstream_nor_the_log(
    hub: Hub, mirror: Mirror, image: Image, told: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    head = await ask_raw(mirror, b"X-Request-Id: " + told + b"\r\n")
    found = re.findall(rb"(?im)^X-Request-Id: (.*)\r$", head)
    assert [bool(MADE.fullmatch(each.decode())) for each in found] == [True]
    assert b"evil" not in head.lower()
    assert all("x-evil" not in seen.headers for seen in hub.journal.entries)
    assert sent(hub)["registry"] <= {found[0].decode()}


async def test_bytes_that_are_no_request_get_an_id_too(mirror: Mirror) -> None:
    head = await ask_raw(mirror, b"", first=b"NOT HTTP\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert re.search(rb"(?m)^X-Request-Id: [0-9a-f]{12}-[0-9a-f]+\r$", head)


async def test_a_fetch_with_followers_carries_the_id_of_its_first_request(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    layer, go = image.layers[1], asyncio.Event()
    hub.faults.add(Fault(kind="blob", stall_after=1000, until=go))
    first = asyncio.create_task(mirror.blob(REPOSITORY, layer.digest, X_Request_Id="first"))
    await hub.journal.wait(lambda seen: seen.port == "cdn")
    second = asyncio.create_task(mirror.blob(REPOSITORY, layer.digest, X_Request_Id="second"))
    go.set()
    for got, own in ((await first, "first"), (await second, "second")):
        assert (got.body, got.headers["X-Request-Id"]) == (layer.read(), own)
    assert sent(hub)["registry"] == {"first"}


async def test_a_request_of_the_mirrors_own_has_no_id(hub: Hub, run: Run) -> None:
    async with run(limit_check=1):
        await hub.journal.wait(lambda seen: seen.kind == "manifest")
    assert sent(hub)["registry"] == {""}


async def test_a_probe_has_no_requests_id(
    hub: Hub, run: Run, image: Image, caplog: pytest.LogCaptureFixture
) -> None:
    """A probe begins with a request's failure, and goes on for hours after it."""
    begun, over = list[str](), asyncio.Event()
    after = ["?"]

    def note(record: logging.LogRecord) -> bool:
        if "probing it" in record.getMessage():
            begun.append(REQUEST.get())
        if "answers again" in record.getMessage():
            after[0] = REQUEST.get()
            over.set()
        return True

    caplog.handler.addFilter(note)
    hub.faults.add(Fault(port="registry", status=502, times=None))
    async with run() as mirror, asyncio.timeout(30):
        while not begun:
            await mirror.ask(f"/v2/{REPOSITORY}/manifests/{len(hub.journal.entries)}")
        hub.faults.clear()
        await over.wait()
    assert all(begun)
    assert after == [""]
    probes = hub.journal.matching(path="/v2/")
    assert {seen.headers.get("x-request-id") for seen in probes} == {None}


@pytest.mark.parametrize("form", ["text", "json"])
async def test_the_lines_of_a_request_have_its_id(
    hub: Hub, tmp_path: Path, image: Image, form: str
) -> None:
    flags = ("--upstream", f"docker.io={hub.url}", "--log-format", form)
    async with serving(tmp_path / "data", *flags, "--limit-check", "0") as command:
        await command.says("listening on")
        [address] = re.findall(r"listening on (\S+?),", command.err)
        status, body = await fetch(f"http://{address}/v2/{REPOSITORY}/manifests/latest")
        assert (status, body) == (200, image.manifest)
        command.send(signal.SIGTERM)
        lines = (await command.ended()).err.splitlines()
    [access] = [line for line in lines if "client" in line and "/manifests/latest" in line]
    [counted] = [line for line in lines if "counted for" in line]
    [start] = [line for line in lines if "listening on" in line]
    own = r'"request": "([^"]+)"' if form == "json" else r" request=(\S+)"
    assert re.findall(own, access) == re.findall(own, counted) == list(sent(hub)["registry"])
    assert not re.findall(own, start)


async def ask_raw(mirror: Mirror, lines: bytes, first: bytes = b"") -> bytes:
    """Ask for a manifest on a socket; returns the head of the answer."""
    url = URL(mirror.url)
    first = first or f"GET /v2/{REPOSITORY}/manifests/latest HTTP/1.1\r\n".encode()
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(first + b"Host: mirror\r\nConnection: close\r\n" + lines + b"\r\n")
        head, _, _ = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    return head + b"\r\n"
