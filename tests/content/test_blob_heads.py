"""HEAD of a blob is a hint: unless it succeeds, a GET decides before the client is answered."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace

import pytest

from tests.attacks.raw import Raw, answer, speaking
from tests.standin import Blob, Fault, Hub, make_image
from tests.support.mirror import Got, Mirror, Run

HERE, THERE = "proj/a", "proj/b"
SIZE = 300_000

WAYS = {
    **{str(status): Fault(status=status) for status in (400, 401, 403, 404, 405, 429, 500, 503)},
    "204": Fault(status=204),
    "page": Fault.page(),
    "page of a 404": Fault.page(status=404),
    "another length": Fault(content_length=SIZE // 2),
    "no length": Fault(content_length=0),
    "silence": Fault(hang=True),
    "a lost connection": Fault(drop=True),
}


@pytest.fixture
def layer(hub: Hub) -> Blob:
    """A layer that the hub has in two repositories."""
    image = make_image(60, [SIZE])
    for name in (HERE, THERE):
        hub.add(image, name, "latest")
    return image.layers[0]


def patience(way: str) -> dict[str, object]:
    """Configure a short patience for the fault that is silence."""
    return {"answer_timeout": 1} if way == "silence" else {}


def refuse_head(hub: Hub, way: str, times: int | None = None) -> None:
    """Have the hub answer HEADs of blobs with this fault."""
    hub.faults.add(replace(WAYS[way], kind="blob", method="HEAD", times=times))


async def ask(mirror: Mirror, repository: str, layer: Blob, method: str) -> Got:
    """Ask by HEAD or GET, and check that the size, or the body, is right."""
    got = await mirror.blob(repository, layer.digest, method)
    assert got.status == 200
    assert got.headers["Content-Length"] == str(layer.size)
    assert method == "HEAD" or got.body == layer.read()
    return got


@pytest.mark.parametrize("redirect", [True, False], ids=["elsewhere", "here"])
@pytest.mark.parametrize("way", WAYS)
async def test_a_blob_that_is_kept_is_given_in_another_repository_that_has_it(
    hub: Hub, run: Run, layer: Blob, way: str, redirect: bool
) -> None:
    hub.terms.redirect = redirect
    refuse_head(hub, way)
    async with run(**patience(way)) as mirror:
        await ask(mirror, HERE, layer, "GET")
        await mirror.settled()
        for method in ("HEAD", "GET"):
            await ask(mirror, THERE, layer, method)
        assert (await ask(mirror, THERE, layer, "GET")).cache == "hit"
    assert hub.blob_bytes(layer.digest) <= 2 * layer.size


@pytest.mark.parametrize("way", [way for way in WAYS if way != "another length"])
async def test_a_client_that_asks_by_head_first_is_told_what_a_get_gives(
    hub: Hub, run: Run, layer: Blob, way: str
) -> None:
    refuse_head(hub, way)
    async with run(**patience(way)) as mirror:
        for method in ("HEAD", "GET"):
            await ask(mirror, HERE, layer, method)
    assert hub.blob_bytes(layer.digest) <= 2 * layer.size


@pytest.mark.parametrize("way", WAYS)
async def test_a_blob_on_its_way_is_followed_from_another_repository_that_has_it(
    hub: Hub, run: Run, way: str
) -> None:
    image = make_image(61, [SIZE])
    for name in (HERE, THERE):
        hub.add(image, name, "slow")
    [layer], go = image.layers, asyncio.Event()
    refuse_head(hub, way)
    hub.faults.add(Fault(kind="blob", method="GET", stall_after=SIZE // 2, until=go))
    async with run(**patience(way)) as mirror:
        first = asyncio.create_task(ask(mirror, HERE, layer, "GET"))
        await hub.seen(lambda seen: seen.kind == "blob")
        second = asyncio.create_task(ask(mirror, THERE, layer, "GET"))
        await hub.seen(lambda seen: seen.repository == THERE and seen.method == "GET")
        go.set()
        await asyncio.gather(first, second)


async def test_what_neither_head_nor_get_gives_is_not_there(
    hub: Hub, mirror: Mirror, layer: Blob
) -> None:
    hub.add(make_image(62), "proj/c", "latest")
    await ask(mirror, HERE, layer, "GET")
    for method in ("HEAD", "GET", "HEAD"):
        assert (await mirror.blob("proj/c", layer.digest, method)).status == 404
    asked = hub.journal.matching(kind="blob", repository="proj/c")
    assert [seen.method for seen in asked] == ["HEAD", "GET"]


async def test_a_host_with_useless_heads_is_not_sent_them_again_and_again(
    hub: Hub, run: Run, layer: Blob
) -> None:
    refuse_head(hub, "405")
    repositories = [f"proj/{number}" for number in range(6)]
    for name in repositories:
        hub.add(make_image(60, [SIZE]), name, "latest")
    async with run() as mirror:
        await ask(mirror, HERE, layer, "GET")
        await mirror.settled()
        for name in repositories:
            await ask(mirror, name, layer, "GET")
    assert hub.count(kind="blob", method="HEAD", port="registry") == 2


async def test_a_page_in_the_place_of_a_blob_puts_it_in_no_repository(
    hub: Hub, run: Run, layer: Blob
) -> None:
    hub.add(make_image(62), "proj/c", "latest")
    async with run() as mirror:
        await ask(mirror, HERE, layer, "GET")
        await mirror.settled()
        hub.faults.add(
            Fault(
                kind="blob",
                port="registry",
                status=200,
                times=None,
                body=b"<html>",
                headers={"Content-Type": "text/html"},
            )
        )
        for method in ("HEAD", "GET"):
            assert (await mirror.blob("proj/c", layer.digest, method)).status == 502
        hub.faults.clear()
        for method in ("HEAD", "GET"):
            assert (await mirror.blob("proj/c", layer.digest, method)).status == 404


@pytest.mark.parametrize("size", [3_000, 300_000])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_a_blob_whose_size_is_told_nowhere_is_fetched_to_tell_it(
    run: Run, size: int, algorithm: str
) -> None:
    body = b"x" * size
    digest = f"{algorithm}:{hashlib.new(algorithm, body).hexdigest()}"
    told = answer(body, length=False)
    blobs = {f"GET /v2/{name}/blobs/{digest}": told for name in (HERE, THERE)}
    raw = Raw(blobs | {"HEAD": answer(b"", length=False)})
    async with speaking(raw) as raw, run(upstreams={"docker.io": {"url": raw.url}}) as mirror:
        for name in (HERE, THERE):
            for method in ("HEAD", "GET", "HEAD"):
                got = await mirror.blob(name, digest, method)
                assert (got.status, got.headers["Content-Length"]) == (200, str(size))
                assert method == "HEAD" or got.body == body
                await mirror.settled()
            assert (await mirror.blob(name, digest)).cache == "hit"
