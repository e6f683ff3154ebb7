"""Traces: a client's valid `traceparent` is in its log lines, and goes to the registry."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from pathlib import Path

import aiohttp
import pytest
from multidict import CIMultiDict

from tests.standin import Fault, Hub, Image
from tests.support.command import serving
from tests.support.mirror import Mirror

REPOSITORY = "library/nginx"
PATH = f"/v2/{REPOSITORY}/manifests/latest"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"


def sent(hub: Hub, header: str = "traceparent") -> dict[str, set[str]]:
    """Return a header's values in the requests to each port; "" where a request had none."""
    told: dict[str, set[str]] = {"registry": set(), "token": set(), "cdn": set()}
    for seen in hub.journal.entries:
        told[seen.port].add(seen.headers.get(header, ""))
    return told


async def test_a_trace_is_sent_to_the_registry_and_to_no_other_host(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    await mirror.ask(PATH, traceparent=PARENT)
    await mirror.blob(REPOSITORY, image.layers[1].digest, traceparent=PARENT)
    assert sent(hub) == {"registry": {PARENT}, "token": {""}, "cdn": {""}}


@pytest.mark.parametrize("header", ["tracestate", "baggage"])
async def test_tracestate_and_baggage_are_not_passed_on(
    hub: Hub, mirror: Mirror, image: Image, header: str
) -> None:
    await mirror.ask(PATH, traceparent=PARENT, **{header: "user=somebody"})
    assert sent(hub, header) == {"registry": {""}, "token": {""}, "cdn": set()}


@pytest.mark.parametrize(
    "told",
    [
        "",
        PARENT[:-1],
        PARENT + "0",
        PARENT + "-what-a-later-version-has",
        PARENT.upper(),
        "ff" + PARENT[2:],
        "00-" + "0" * 32 + PARENT[35:],
        PARENT[:36] + "0" * 16 + "-01",
        PARENT.replace("-", "_"),
        PARENT[:-2] + "0g",
        "a b",
        "x" * 5000,
    ],
)
async def test_a_traceparent_that_is_not_valid_is_not_taken(
    hub: Hub, mirror: Mirror, image: Image, told: str
) -> None:
    assert (await mirror.ask(PATH, traceparent=told)).status == 200
    assert sent(hub)["registry"] == {""}


async def test_two_traceparents_are_none(hub: Hub, mirror: Mirror, image: Image) -> None:
    headers = CIMultiDict([("traceparent", PARENT), ("traceparent", OTHER)])
    async with mirror.session.get(mirror.url + PATH, headers=headers) as response:
        assert response.status == 200
    assert sent(hub)["registry"] == {""}


async def test_a_fetch_with_followers_carries_the_trace_of_its_first_request(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    layer, go = image.layers[1], asyncio.Event()
    hub.faults.add(Fault(kind="blob", stall_after=1000, until=go))
    first = asyncio.create_task(mirror.blob(REPOSITORY, layer.digest, traceparent=PARENT))
    await hub.journal.wait(lambda seen: seen.port == "cdn")
    second = asyncio.create_task(mirror.blob(REPOSITORY, layer.digest, traceparent=OTHER))
    go.set()
    assert (await first).body == (await second).body == layer.read()
    assert sent(hub)["registry"] == {PARENT}


async def test_the_next_request_of_a_connection_has_no_trace_of_the_last(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(connector=connector) as session:
        for path, headers in ((PATH, {"traceparent": PARENT}), (PATH + "2", {})):
            async with session.get(mirror.url + path, headers=headers) as response:
                await response.read()
    later = [seen for seen in hub.journal.entries if seen.path.endswith("latest2")]
    assert later
    assert {seen.headers.get("traceparent") for seen in later} == {None}


@pytest.mark.parametrize("form", ["text", "json"])
async def test_the_lines_of_a_request_have_its_trace(
    hub: Hub, tmp_path: Path, image: Image, form: str
) -> None:
    flags = ("--upstream", f"docker.io={hub.url}", "--log-format", form, "--limit-check", "0")
    async with serving(tmp_path / "data", *flags) as command:
        await command.says("listening on")
        [address] = re.findall(r"listening on (\S+?),", command.err)
        async with aiohttp.ClientSession() as session:
            for headers in ({"traceparent": PARENT}, {}):
                async with session.get(f"http://{address}{PATH}", headers=headers) as response:
                    assert response.status == 200
        command.send(signal.SIGTERM)
        lines = (await command.ended()).err.splitlines()
    traced, plain = (line for line in lines if "client" in line and "/manifests/latest" in line)
    [counted] = [line for line in lines if "counted for" in line]
    if form == "json":
        assert json.loads(traced)["traceparent"] == json.loads(counted)["traceparent"] == PARENT
        assert "traceparent" not in json.loads(plain)
    else:
        assert f" traceparent={PARENT}" in traced
        assert f" traceparent={PARENT}" in counted
        assert "traceparent" not in plain
