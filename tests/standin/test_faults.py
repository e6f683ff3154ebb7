"""Every fault strikes in just its way, and only as often as it says."""

import asyncio
import json
from collections.abc import Callable

import aiohttp
import pytest

from . import Fault, Hub, Image, padded, with_fields, without
from .client import Client
from .conftest import NGINX, layer_path


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_cut_sends_so_many_bytes_and_no_end(
    hub: Hub, client: Client, image: Image, chunked: bool
) -> None:
    layer = image.layers[0]
    hub.faults.add(Fault(kind="blob", cut_after=30_000, chunked=chunked))
    with pytest.raises(aiohttp.ClientPayloadError):
        await client.pull(layer_path(image))
    await hub.quiet()
    assert hub.blob_bytes(layer.digest) == 30_000
    assert (await client.pull(layer_path(image))).body == layer.read()


async def test_one_wrong_byte_is_one_wrong_byte(hub: Hub, client: Client, image: Image) -> None:
    hub.faults.add(Fault(kind="blob", corrupt_at=777, times=None))
    right = image.layers[0].read()
    wrong = (await client.pull(layer_path(image))).body
    assert [at for at, (a, b) in enumerate(zip(right, wrong, strict=True)) if a != b] == [777]
    assert (await client.pull(layer_path(image), part="bytes=778-")).body == right[778:]


async def test_a_stall_ends_with_its_event(hub: Hub, client: Client, image: Image) -> None:
    layer, go = image.layers[0], asyncio.Event()
    hub.faults.add(Fault(kind="blob", stall_after=5000, until=go))
    pull = asyncio.create_task(client.pull(layer_path(image)))
    await hub.seen(lambda seen: seen.bytes_sent == 5000 and seen.digest == layer.digest)
    assert not pull.done()
    go.set()
    assert (await pull).body == layer.read()


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 502, 503, 504])
async def test_a_status_strikes_once_and_spends_no_pull(
    hub: Hub, client: Client, status: int
) -> None:
    hub.faults.add(Fault(kind="manifest", status=status, headers={"Retry-After": "7"}))
    struck = await client.pull(f"{NGINX}/manifests/latest")
    assert (struck.status, struck.headers["Retry-After"]) == (status, "7")
    assert hub.pulls == 0
    assert (await client.pull(f"{NGINX}/manifests/latest")).status == 200


async def test_ready_made_faults(hub: Hub, client: Client) -> None:
    hub.faults.add(Fault.abuse("manifest"))
    hub.faults.add(Fault.page("manifest"))
    abuse = await client.pull(f"{NGINX}/manifests/latest")
    assert (abuse.status, abuse.headers["Retry-After"]) == (429, "60")
    assert abuse.headers["Content-Type"] == "text/plain"
    page = await client.pull(f"{NGINX}/manifests/latest")
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=UTF-8")


async def test_wrong_lengths_and_wrong_bodies(hub: Hub, client: Client, image: Image) -> None:
    path, layer = f"{NGINX}/manifests/{image.digest}", image.layers[0]
    hub.faults.add(Fault(kind="manifest", body=b"{}"))
    wrong = await client.pull(path)
    assert (wrong.body, wrong.headers["Docker-Content-Digest"]) == (b"{}", image.digest)
    hub.faults.add(Fault(kind="blob", short_at=10))
    assert (await client.pull(layer_path(image))).body == layer.read()[:10]
    hub.faults.add(Fault(kind="blob", content_length=layer.size + 1))
    with pytest.raises(aiohttp.ClientPayloadError):
        await client.pull(layer_path(image))
    hub.faults.add(Fault(kind="blob", chunked=True))
    chunked = await client.pull(layer_path(image))
    assert "Content-Length" not in chunked.headers
    assert chunked.body == layer.read()


async def test_less_usual_registries(hub: Hub, client: Client, image: Image) -> None:
    path, layer = f"{NGINX}/manifests/latest", image.layers[0]
    hub.faults.add(Fault(method="HEAD", kind="manifest", headers={"docker-content-digest": None}))
    assert "Docker-Content-Digest" not in (await client.pull(path, "HEAD")).headers
    hub.faults.add(Fault(method="HEAD", kind="manifest", status=405))
    assert (await client.pull(path, "HEAD")).status == 405
    hub.faults.add(Fault(kind="blob", ignore_range=True))
    whole = await client.pull(layer_path(image), part="bytes=5-")
    assert (whole.status, whole.body) == (200, layer.read())
    lie = {"Content-Range": f"bytes 0-{layer.size - 1}/{layer.size}"}
    hub.faults.add(Fault(kind="blob", headers=lie))
    shifted = await client.pull(layer_path(image), part="bytes=5-")
    assert shifted.headers["Content-Range"] == lie["Content-Range"]
    assert shifted.body == layer.read()[5:]
    hub.faults.add(Fault.page("blob"))
    assert (await client.pull(layer_path(image), part="bytes=5-")).status == 200
    hub.faults.add(Fault(kind="blob", redirect_loop=True))
    turned = await client.pull(layer_path(image))
    assert turned.status == 307
    assert (await client.ask("GET", turned.headers["Location"])).body == layer.read()


@pytest.mark.parametrize(
    ("rewrite", "expected"),
    [(without("expires_in"), None), (with_fields(expires_in=10**9), 10**9), (padded(65_536), 300)],
)
async def test_token_answers_can_lie(
    hub: Hub, client: Client, rewrite: Callable[[bytes], bytes], expected: int | None
) -> None:
    hub.faults.add(Fault(kind="token", body=rewrite))
    reply = await client.token(NGINX)
    assert json.loads(reply.body).get("expires_in") == expected


async def test_a_fault_at_the_door_changes_the_challenge(hub: Hub, client: Client) -> None:
    hub.faults.add(Fault(at_door=True, headers={"WWW-Authenticate": "Negotiate"}))
    reply = await client.ask("GET", f"{hub.url}/v2/")
    assert (reply.status, reply.headers["WWW-Authenticate"]) == (401, "Negotiate")


async def test_a_fault_within_the_body_waits_for_a_body(
    hub: Hub, client: Client, image: Image
) -> None:
    hub.faults.add(Fault(kind="blob", cut_after=0))
    assert (await client.pull(layer_path(image), "HEAD")).status == 200
    with pytest.raises(aiohttp.ClientPayloadError):
        await client.pull(layer_path(image))


async def test_a_dropped_request_gets_no_answer(hub: Hub, client: Client) -> None:
    hub.faults.add(Fault(kind="token", drop=True, times=None))
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await client.token(NGINX)
