"""Room, places and passes are for bytes that have come: a claim takes none of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from mirror.content.blobs.allowance import Allowance
from mirror.content.blobs.fetch_partial import FetchPartial
from mirror.content.blobs.passthrough import PassThrough
from mirror.content.blobs.possession import Possession
from mirror.content.blobs.sinks import while_connected
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.storage.errors import NoRoom
from mirror.storage.store import Store
from mirror.upstream.client import RegistryClient
from tests.standin import Fault, Hub, make_image
from tests.support.mirror import Run

MEBIBYTE = 1024 * 1024
GOOD, BAD = "library/good", "bad.example/a/b"


@pytest.fixture
async def bad() -> AsyncIterator[Hub]:
    """Another upstream, a hostile one."""
    async with Hub() as bad:
        yield bad


def beside(hub: Hub, *others: Hub) -> dict[str, object]:
    """Configure upstreams."""
    names = ("bad.example", "worse.example")
    more = {name: {"url": other.url} for name, other in zip(names, others, strict=False)}
    return {"upstreams": {"docker.io": {"url": hub.url}, **more}}


@asynccontextmanager
async def asking(*questions: asyncio.Task[object]) -> AsyncIterator[None]:
    """Let questions run that are given up at the end."""
    try:
        yield
    finally:
        for each in questions:
            each.cancel()
        await asyncio.gather(*questions, return_exceptions=True)


async def test_a_length_that_nobody_sends_evicts_nothing(hub: Hub, bad: Hub, run: Run) -> None:
    good = make_image(41, [2 * MEBIBYTE] * 3)
    large = make_image(42, [28 * MEBIBYTE])
    hub.add(good, GOOD, "latest")
    bad.add(large, "a/b", "latest")
    bad.faults.add(Fault(kind="blob", method="GET", stall_after=1000, times=None))
    async with run(**beside(hub, bad), max_size=36 * MEBIBYTE) as mirror:
        await mirror.pull(GOOD, "latest", good)
        claim = asyncio.create_task(mirror.blob(BAD, large.layers[0].digest))
        async with asking(claim):
            await bad.seen(lambda seen: seen.port == "cdn" and seen.bytes_sent > 0)
            await mirror.ask("/healthz")
            assert mirror.stored.promised <= MEBIBYTE
            assert mirror.stored.evicted == 0
            for layer in good.layers:
                assert (await mirror.blob(GOOD, layer.digest)).cache == "hit"


async def test_an_honest_blob_of_nearly_all_the_room_is_kept(hub: Hub, bad: Hub, run: Run) -> None:
    old, large = make_image(43, [3 * MEBIBYTE] * 4), make_image(44, [24 * MEBIBYTE])
    hub.add(old, GOOD, "old")
    hub.add(large, GOOD, "latest")
    async with run(**beside(hub, bad), max_size=36 * MEBIBYTE) as mirror:
        await mirror.pull(GOOD, "old", old)
        [layer] = large.layers
        assert (await mirror.blob(GOOD, layer.digest)).body == layer.read()
        await mirror.settled()
        assert (await mirror.blob(GOOD, layer.digest)).cache == "hit"
        assert mirror.stored.used <= 36 * MEBIBYTE
    assert hub.bodies(layer.digest) == 1


@pytest.mark.parametrize("upstreams", ["one", "two"])
async def test_a_large_honest_blob_is_kept_beside_what_its_upstream_had_lately(
    hub: Hub, bad: Hub, run: Run, upstreams: str
) -> None:
    busy, large = make_image(48, [32 * MEBIBYTE] * 8), make_image(49, [150 * MEBIBYTE])
    hub.add(busy, GOOD, "busy")
    hub.add(large, GOOD, "latest")
    others = (bad,) if upstreams == "two" else ()
    async with run(**beside(hub, *others), max_size=300 * MEBIBYTE) as mirror:
        for each in busy.layers:
            await mirror.blob(GOOD, each.digest)
        [layer] = large.layers
        assert (await mirror.blob(GOOD, layer.digest)).status == 200
        await mirror.settled()
        assert (await mirror.blob(GOOD, layer.digest)).cache == "hit"
        assert mirror.stored.used <= 300 * MEBIBYTE
    assert hub.bodies(layer.digest) == 1


async def test_a_large_blob_evicts_no_lately_used_blob_of_another_upstream(
    hub: Hub, bad: Hub, run: Run
) -> None:
    busy, large = make_image(48, [32 * MEBIBYTE] * 8), make_image(49, [150 * MEBIBYTE])
    hub.add(busy, GOOD, "busy")
    bad.add(large, "a/b", "latest")
    async with run(**beside(hub, bad), max_size=300 * MEBIBYTE) as mirror:
        for each in busy.layers:
            await mirror.blob(GOOD, each.digest)
        [layer] = large.layers
        assert (await mirror.blob(BAD, layer.digest)).body == layer.read()
        await mirror.settled()
        kept = [(await mirror.blob(GOOD, each.digest)).cache for each in busy.layers]
    assert kept.count("hit") >= 6  # what fits in the upstream's own share may have cost the rest


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_honest_blob_is_kept_although_the_spared_ones_are_oldest(
    hub: Hub, bad: Hub, run: Run, chunked: bool
) -> None:
    """What its own upstream had since makes room for it. Of no known size, it spares to the end."""
    mine, theirs = make_image(48, [32 * MEBIBYTE] * 7), make_image(47, [4 * MEBIBYTE])
    large = make_image(49, [150 * MEBIBYTE])
    hub.add(mine, GOOD, "busy")
    hub.add(large, GOOD, "latest")
    bad.add(theirs, "a/b", "latest")
    async with run(**beside(hub, bad), max_size=300 * MEBIBYTE) as mirror:
        [first], [layer] = theirs.layers, large.layers
        await mirror.blob(BAD, first.digest)
        for each in mine.layers:
            await mirror.blob(GOOD, each.digest)
        hub.faults.add(Fault(kind="blob", chunked=chunked, times=None))
        assert (await mirror.blob(GOOD, layer.digest)).status == 200
        await mirror.settled()
        assert (await mirror.blob(GOOD, layer.digest)).cache == "hit"
        if chunked:
            assert (await mirror.blob(BAD, first.digest)).cache == "hit"
    assert hub.bodies(layer.digest) == 1


async def test_many_blobs_at_once_go_beyond_no_share(hub: Hub, bad: Hub, run: Run) -> None:
    busy = make_image(48, [32 * MEBIBYTE] * 8)
    hub.add(busy, GOOD, "busy")
    async with run(**beside(hub, bad), max_size=300 * MEBIBYTE) as mirror:
        for each in busy.layers:
            await mirror.blob(GOOD, each.digest)
        await mirror.settled()
        store, allowance = mirror.daemon.store, Allowance(lambda: 300 * MEBIBYTE, ["a", "b"])
        rooms = [_partial(store, allowance, number) for number in range(8)]
        grown = await asyncio.gather(
            *(each.grow(30 * MEBIBYTE, 100 * MEBIBYTE) for each in rooms), return_exceptions=True
        )
        assert sum(isinstance(each, NoRoom) for each in grown) >= 6
        assert sum(each.reserved for each in rooms) <= 64 * MEBIBYTE
        for partial in rooms:
            await partial.discard()
        assert not mirror.stored.promised


def _partial(store: Store, allowance: Allowance, number: int) -> FetchPartial:
    """Make the partial of a fetch that has not begun to ask."""
    repository = Repository("bad.example", "a/b")
    possession = Possession(store, b"key")
    registry: RegistryClient = None  # type: ignore[assignment]  # nobody is asked for room
    digest = Digest.of(b"%d" % number)
    return FetchPartial(registry, repository, digest, store, possession, allowance, isolated=True)


def test_room_goes_ahead_of_the_bytes_by_no_more_than_has_come() -> None:
    allowance = Allowance(lambda: 2048 * MEBIBYTE, ["a", "b"])
    assert allowance.wanted(1, None) <= MEBIBYTE
    for come in (MEBIBYTE, 60 * MEBIBYTE, 1000 * MEBIBYTE):
        assert allowance.wanted(come, 2000 * MEBIBYTE) - come <= min(come, 64 * MEBIBYTE)
    assert allowance.wanted(10, 12) == 12


def test_what_is_on_its_way_beyond_a_share_spares_what_was_used_lately() -> None:
    allowance = Allowance(lambda: 2048 * MEBIBYTE, ["a", "b"])
    size = 1900 * MEBIBYTE
    assert not allowance.sparing("bad.example", 200 * MEBIBYTE, 100 * MEBIBYTE, size)
    allowance.add("bad.example", 256 * MEBIBYTE)
    assert allowance.sparing("bad.example", MEBIBYTE, 256 * MEBIBYTE, size)
    assert not allowance.sparing("docker.io", MEBIBYTE, 0, size)  # of another upstream
    assert not allowance.sparing("bad.example", MEBIBYTE, size // 2, size)  # half has come
    allowance.add("bad.example", 1280 * MEBIBYTE)
    assert allowance.sparing("bad.example", MEBIBYTE, size // 2, size)  # of all, too much


async def test_blobs_that_upstream_has_not_leave_nothing(
    hub: Hub, run: Run, tmp_path: Path
) -> None:
    hub.terms.auth = "none"
    hub.add(make_image(45), GOOD, "latest")
    async with run(missing_ttl=0) as mirror:
        for number in range(50):
            digest = Digest.of(b"%d" % number)
            assert (await mirror.blob(GOOD, digest)).status == 404
        await mirror.settled()
        assert not mirror.stored.unfinished
        assert mirror.folder.partials() == []


async def test_a_body_of_which_nothing_comes_leaves_nothing(
    hub: Hub, run: Run, tmp_path: Path
) -> None:
    hub.faults.add(Fault(kind="blob", method="GET", cut_after=0, times=None))
    image = make_image(46, [300_000])
    hub.add(image, GOOD, "latest")
    async with run(resume_timeout=0.2) as mirror:
        with contextlib.suppress(aiohttp.ClientPayloadError):
            assert (await mirror.blob(GOOD, image.layers[0].digest)).status >= 500
        await mirror.settled()
        assert not mirror.stored.unfinished
        assert mirror.folder.partials() == []


async def test_two_slow_upstreams_leave_a_place_to_a_third(hub: Hub, bad: Hub, run: Run) -> None:
    slow = make_image(47, [70_000 + number for number in range(10)])
    good = make_image(48, [50_000])
    hub.add(good, GOOD, "latest")
    async with Hub() as worse:
        for other in (bad, worse):
            other.add(slow, "a/b", "latest")
            other.faults.add(Fault(kind="blob", stall_after=30_000, times=None))
        async with run(**beside(hub, bad, worse), max_fetches=8) as mirror:
            questions = [
                asyncio.create_task(mirror.blob(f"{name}/a/b", layer.digest))
                for layer in slow.layers
                for name in ("bad.example", "worse.example")
            ]
            async with asking(*questions), asyncio.timeout(10):
                await bad.seen(lambda seen: seen.port == "cdn", 3)
                await worse.seen(lambda seen: seen.port == "cdn", 1)
                [layer] = good.layers
                assert (await mirror.blob(GOOD, layer.digest)).body == layer.read()


async def test_one_client_leaves_passes_to_the_others(hub: Hub, run: Run) -> None:
    """Ranges far ahead of the fill pass through; those of one client may hang for ever."""
    hub.terms.redirect = False
    image = make_image(49, [40 * MEBIBYTE])
    hub.add(image, GOOD, "latest")
    [layer] = image.layers
    size = layer.size
    hub.faults.add(
        Fault(kind="blob", match=lambda seen: seen.range is None, stall_after=9000, times=None)
    )
    slow = f"bytes={size - 90_000}-{size - 1}"
    hub.faults.add(
        Fault(kind="blob", match=lambda seen: seen.range == slow, stall_after=500, times=None)
    )
    async with run() as mirror:
        questions = [
            asyncio.create_task(mirror.blob(GOOD, layer.digest, Range=slow)) for _ in range(70)
        ]
        async with asking(*questions), asyncio.timeout(10):
            await hub.seen(lambda seen: seen.range == slow, 40)
            path, start = f"/v2/{GOOD}/blobs/{layer.digest}", size - 5000
            part = await mirror.ask_from("127.0.0.2", path, Range=f"bytes={start}-{start + 999}")
            assert (part.status, part.body) == (206, layer.read()[start : start + 1000])


class Gone:
    """A client that has left."""

    gone = True


async def test_a_silent_upstream_is_waited_for_by_nobody_who_has_left() -> None:
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionResetError):
            async with while_connected(Gone()):
                await asyncio.Event().wait()


async def test_a_fetch_that_waits_for_a_pass_goes_on_once_it_needs_none() -> None:
    passes, near = PassThrough(1, ["docker.io"]), asyncio.Event()

    async def comes_near() -> bool:
        return await near.wait()

    async with passes.taken("docker.io", "one") as held:
        assert held
        waits = passes.taken("docker.io", "two", comes_near)
        asyncio.get_running_loop().call_soon(near.set)
        async with asyncio.timeout(5), waits as other:
            assert not other
    async with asyncio.timeout(5), passes.taken("docker.io", "two") as held:
        assert held
