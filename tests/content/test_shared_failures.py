"""Single flight shares a success; a failed question fails one client, not all that wait for it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Literal

import pytest

from tests.standin import Fault, Hub, Image
from tests.support.mirror import Got, Mirror, Run

REPOSITORY = "library/nginx"
MANY = 20

ONCE = {
    "404": Fault(status=404),
    "403": Fault(status=403),
    "401": Fault(status=401),
    "400": Fault(status=400),
    "silence": Fault(hang=True),
}
Ask = Callable[[Mirror, Image], Awaitable[Got]]
WAYS: dict[str, tuple[Literal["blob", "manifest", "tags"], Ask]] = {
    "blob": ("blob", lambda mirror, image: mirror.blob(REPOSITORY, image.layers[1].digest)),
    "digest": ("manifest", lambda mirror, image: mirror.manifest(REPOSITORY, image.digest)),
    "tags": ("tags", lambda mirror, _: mirror.ask(f"/v2/{REPOSITORY}/tags/list")),
}


async def crowd(ask: Callable[[], Awaitable[Got]]) -> Counter[int]:
    """Ask many times at once; returns how often each status was answered."""
    return Counter(got.status for got in await asyncio.gather(*(ask() for _ in range(MANY))))


@pytest.mark.parametrize("fault", ONCE)
@pytest.mark.parametrize("way", WAYS)
async def test_one_refusal_of_upstreams_fails_one_client_of_a_crowd(
    hub: Hub, run: Run, image: Image, way: str, fault: str
) -> None:
    kind, ask = WAYS[way]
    hub.terms.redirect = False
    async with run(answer_timeout=2) as mirror:
        assert (await mirror.manifest(REPOSITORY, "other")).status == 404  # the token is fetched
        hub.faults.add(replace(ONCE[fault], kind=kind, method="GET"))
        hub.journal.clear()
        assert (await crowd(lambda: ask(mirror, image)))[200] >= MANY - 1
        assert hub.count(kind=kind) <= 4
        assert (await ask(mirror, image)).status == 200


@pytest.mark.parametrize("fault", ["403", "silence"])
async def test_a_token_server_that_fails_once_fails_one_client_of_a_crowd(
    hub: Hub, run: Run, image: Image, fault: str
) -> None:
    hub.terms.redirect = False
    hub.faults.add(replace(ONCE[fault], kind="token"))
    async with run(answer_timeout=2) as mirror:
        told = await crowd(lambda: mirror.blob(REPOSITORY, image.layers[1].digest))
        assert told[200] >= MANY - 1
    assert hub.count(kind="token") <= 4


async def test_a_crowd_that_is_refused_asks_a_few_times(hub: Hub, run: Run, image: Image) -> None:
    hub.terms.redirect = False
    hub.faults.add(Fault(kind="blob", method="GET", status=404, times=None))
    async with run() as mirror:
        told = await crowd(lambda: mirror.blob(REPOSITORY, image.layers[1].digest))
    assert told == {404: MANY}
    assert hub.count(kind="blob") <= 4  # a request that comes in between shares the second question


async def test_a_denial_of_one_repository_is_not_told_in_another(
    hub: Hub, run: Run, image: Image
) -> None:
    hub.terms.redirect = False
    hub.add(image, "team/shut", "latest")
    go = asyncio.Event()
    late = hub.faults.add(
        Fault(kind="blob", method="GET", repository="team/shut", hang=True, until=go, times=None)
    )
    layer = image.layers[1].digest
    async with run() as mirror:
        shut = [asyncio.create_task(mirror.blob("team/shut", layer)) for _ in range(5)]
        await hub.seen(lambda seen: seen.kind == "blob")
        open_ = asyncio.create_task(mirror.blob(REPOSITORY, layer))
        await hub.seen(lambda seen: seen.kind == "blob" and seen.method == "HEAD")
        hub.faults.remove(late)
        hub.faults.add(Fault(kind="blob", repository="team/shut", status=403, times=None))
        go.set()
        assert (await open_).status == 200
        for each in shut:
            await each
