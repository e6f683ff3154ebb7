"""Pinned tags are kept fresh, by questions that cost nothing, and never by the last pulls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from mirror.admin import pin_keeper
from mirror.admin.messages import Pinned, PinOrder, Status, StatusOrder
from mirror.oci.digest import Digest
from tests.standin import Fault, Hub, Image, Seen, make_image, make_index
from tests.standin.images import Index
from tests.support.clock import Clock
from tests.support.mirror import Mirror, Run
from tests.support.orders import ordered
from tests.support.waiting import until

NAME = "library/app"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds that follow each other at once."""
    monkeypatch.setattr(pin_keeper, "EVERY", 0.02)
    monkeypatch.setattr(pin_keeper, "_BETWEEN", 0.02)
    monkeypatch.setattr(pin_keeper, "_AGAIN", 0.02)


def add(hub: Hub, seed: int, architectures: str = "amd64 arm64 s390x") -> Index:
    """Have the hub's tag mean a new image of several platforms."""
    images = [
        make_image(f"{seed}/{each}", [20_000], architecture=each) for each in architectures.split()
    ]
    for image in images:
        hub.add(image, NAME)
    index = make_index(images)
    hub.add(index, NAME, "1")
    return index


async def pull(mirror: Mirror, index: Index, *images: Image) -> None:
    """Pull some platforms of the tag."""
    assert (await mirror.manifest(NAME, "1")).body == index.manifest
    for image in images:
        assert (await mirror.manifest(NAME, image.digest)).status == 200
        for blob in image.blobs:
            assert (await mirror.blob(NAME, blob.digest)).status == 200
    await mirror.settled()


async def pin(tmp_path: Path, *names: str) -> None:
    """Pin the tag, or others."""
    order = PinOrder(names or ("library/app:1",))
    [record] = [each async for each in ordered(tmp_path / "data", order)]
    assert isinstance(record, Pinned)
    assert not any(each.refused for each in record.images)


def is_question(seen: Seen) -> bool:
    """Whether upstream was asked about the tag."""
    return seen.method == "HEAD" and seen.reference == "1"


async def test_the_stored_platforms_of_a_changed_image_are_stored_anew(
    hub: Hub, run: Run, tmp_path: Path
) -> None:
    old = add(hub, 1)
    async with run(tag_ttl=0) as mirror:
        await pull(mirror, old, *old.images[:2])
        await pin(tmp_path)
        new = add(hub, 2)
        wanted = [new.digest]
        for image in new.images[:2]:
            wanted += [image.digest, *(blob.digest for blob in image.blobs)]
        await until(lambda: set(wanted) <= set(mirror.stored.digests))
        assert new.images[2].digest not in mirror.stored.digests
        assert hub.pulls == 3 + 3
        catalog = mirror.daemon.store.catalog
        assert all(map(catalog.is_pinned, map(Digest, wanted)))
        newest = add(hub, 3, "amd64")  # a platform is gone
        await until(lambda: newest.images[0].layers[0].digest in mirror.stored.digests)


async def test_the_platforms_are_stored_also_if_a_client_moved_the_tag(
    hub: Hub, run: Run, tmp_path: Path
) -> None:
    old = add(hub, 1)
    async with run(tag_ttl=0) as mirror:
        await pull(mirror, old, *old.images[:2])
        await pin(tmp_path)
        await hub.seen(is_question, 5)
        new = add(hub, 2)
        await pull(mirror, new, new.images[1])
        await until(lambda: new.images[0].layers[0].digest in mirror.stored.digests)


async def test_a_pinned_manifest_that_becomes_an_index_keeps_its_platform(
    hub: Hub, run: Run, tmp_path: Path
) -> None:
    plain = make_image(1, [20_000], architecture="s390x")
    hub.add(plain, NAME, "1")
    async with run(tag_ttl=0) as mirror:
        await mirror.pull(NAME, "1", plain)
        await mirror.settled()
        await pin(tmp_path)
        await hub.seen(is_question, 2)
        new = add(hub, 2)
        await until(lambda: new.images[2].layers[0].digest in mirror.stored.digests)
        assert new.images[0].digest not in mirror.stored.digests


async def test_a_pinned_artifact_that_becomes_an_index_is_stored_for_clients(
    hub: Hub, run: Run, tmp_path: Path
) -> None:
    plain = make_image(1, [20_000], architecture="")
    other = make_image(3, [20_000], architecture="arm64")
    hub.add(plain, NAME, "1")
    hub.add(other, "library/other")
    hub.add(make_index([other]), "library/other", "1")
    async with run(tag_ttl=0) as mirror:
        await mirror.pull(NAME, "1", plain)
        assert (await mirror.manifest("library/other", "1")).status == 200
        assert (await mirror.manifest("library/other", other.digest)).status == 200
        await mirror.settled()
        await pin(tmp_path)
        await hub.seen(is_question, 2)
        new = add(hub, 2)
        await until(lambda: new.images[1].layers[0].digest in mirror.stored.digests)


async def test_a_pinned_tag_without_its_platform_is_a_failure_and_retried(
    hub: Hub, run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = add(hub, 1, "amd64")
    async with run(tag_ttl=0) as mirror:
        await pull(mirror, old, old.images[0])
        await pin(tmp_path)
        await hub.seen(is_question, 2)
        add(hub, 2, "s390x")
        words = "is not stored anew: it is not there for linux/amd64"
        await until(lambda: caplog.text.count(words) > 1)
        new = add(hub, 3, "amd64 s390x")
        await until(lambda: new.images[0].layers[0].digest in mirror.stored.digests)


async def test_platforms_that_no_order_takes_do_not_end_the_keeping(
    hub: Hub, run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = " ".join(["amd64", *(f"cpu{number}" for number in range(33))])
    old = add(hub, 1, names)
    async with run(tag_ttl=0) as mirror:
        await pull(mirror, old, old.images[0])
        for image in old.images[1:]:
            assert (await mirror.manifest(NAME, image.digest)).status == 200
        await pin(tmp_path)
        await hub.seen(is_question, 2)
        new = add(hub, 2, names)
        await until(lambda: new.images[0].layers[0].digest in mirror.stored.digests)
        assert "unexpected" not in caplog.text


async def test_an_image_that_fails_unexpectedly_does_not_end_the_keeping(
    hub: Hub,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(pin_keeper, "MOST_PLATFORMS", 1000)  # which no order takes
    old = add(hub, 1, " ".join(f"cpu{number}" for number in range(33)))
    async with run(tag_ttl=0) as mirror:
        await pull(mirror, old)
        for image in old.images:
            assert (await mirror.manifest(NAME, image.digest)).status == 200
        await pin(tmp_path)
        await hub.seen(is_question, 2)
        hub.add(make_index(list(reversed(old.images))), NAME, "1")
        words = "unexpected failure to keep the pinned docker.io/library/app:1"
        await until(lambda: caplog.text.count(words) > 1)


async def test_content_that_is_lost_or_never_arrived_is_fetched(
    hub: Hub, run: Run, tmp_path: Path
) -> None:
    old = add(hub, 1)
    platform = old.images[0]
    layer, child = Digest(platform.layers[0].digest), Digest(platform.digest)
    async with run() as mirror:
        await pull(mirror, old)
        assert (await mirror.manifest(NAME, platform.digest)).status == 200  # and none of its blobs
        await pin(tmp_path)
    async with run() as mirror:
        await until(lambda: layer in mirror.stored.digests)
        store = mirror.daemon.store
        for lost in (layer, child):
            await store.discard(lost)
            assert not store.catalog.is_pinned(lost)
            await until(partial(store.catalog.is_pinned, lost))


async def test_the_former_content_stays_until_the_new_is_whole(
    hub: Hub, run: Run, tmp_path: Path
) -> None:
    gate = asyncio.Event()
    old = add(hub, 1, "amd64")
    async with run(tag_ttl=0) as mirror:
        await pull(mirror, old, old.images[0])
        await pin(tmp_path)
        await hub.seen(is_question, 2)
        new = add(hub, 2, "amd64")
        layers = [each.images[0].layers[0].digest for each in (old, new)]
        hub.faults.add(Fault(kind="blob", reference=layers[1], stall_after=1000, until=gate))
        await hub.seen(lambda seen: seen.kind == "blob" and seen.reference == layers[1])
        catalog = mirror.daemon.store.catalog
        assert catalog.is_pinned(Digest(layers[0]))
        gate.set()
        await until(lambda: not catalog.is_pinned(Digest(layers[0])))
        assert catalog.is_pinned(Digest(layers[1]))


async def test_a_restart_loses_neither_former_content_nor_platforms(
    hub: Hub, run: Run, tmp_path: Path
) -> None:
    gate = asyncio.Event()
    old = add(hub, 1)
    async with run(tag_ttl=0) as mirror:
        await pull(mirror, old, *old.images[:2])
        await pin(tmp_path)
        new = add(hub, 2)
        layers = [each.layers[0].digest for each in (*old.images[:2], *new.images[:2])]
        hub.faults.add(Fault(kind="blob", port="cdn", stall_after=1000, until=gate, times=None))
        assert (await mirror.manifest(NAME, "1")).body == new.manifest  # as far as a client pulls
        await until(lambda: mirror.daemon.store.catalog.is_pinned(Digest(new.digest)))
    async with run(tag_ttl=0) as mirror:
        catalog = mirror.daemon.store.catalog
        assert all(catalog.is_pinned(Digest(each)) for each in layers[:2])
        gate.set()
        await until(lambda: not any(catalog.is_pinned(Digest(each)) for each in layers[:2]))
        assert all(catalog.is_pinned(Digest(each)) for each in layers[2:])


async def test_the_last_pulls_are_not_spent_on_pinned_tags(
    hub: Hub, run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub.terms.limit = 5
    old = add(hub, 1)
    caplog.set_level("INFO")
    async with run(tag_ttl=0, max_stale=0) as mirror:
        await pull(mirror, old, old.images[0])
        await pin(tmp_path)
        add(hub, 2)
        await until(lambda: "is pulled when more pulls are left" in caplog.text)
        assert hub.pulls == 2


async def test_a_fresh_tag_is_not_asked_about(hub: Hub, run: Run, tmp_path: Path) -> None:
    clock = Clock()
    old = add(hub, 1)
    async with run(clock, tag_ttl=60) as mirror:
        await pull(mirror, old, old.images[0])
        await pin(tmp_path)
        hub.journal.clear()
        for times in (1, 2, 3):
            clock.now += 61
            await hub.seen(is_question, times)
            await mirror.manifest(NAME, "1")  # joins the question, or finds its answer
        assert len(hub.journal.entries) == 3


async def test_a_stop_does_not_wait_for_the_content_of_a_pinned_tag(
    hub: Hub, run: Run, tmp_path: Path
) -> None:
    gate = asyncio.Event()
    old = add(hub, 1, "amd64")
    before = asyncio.all_tasks()
    async with asyncio.timeout(20), AsyncExitStack() as stack:
        mirror = await stack.enter_async_context(run(tag_ttl=0))
        await pull(mirror, old, old.images[0])
        await pin(tmp_path)
        new = add(hub, 2, "amd64")
        layer = new.images[0].layers[0].digest
        hub.faults.add(Fault(kind="blob", reference=layer, stall_after=1000, until=gate))
        await hub.seen(lambda seen: seen.kind == "blob" and seen.reference == layer)
        began = asyncio.get_running_loop().time()
        await stack.aclose()
        assert asyncio.get_running_loop().time() - began < 5
        left = {each for each in asyncio.all_tasks() - before if "warm" in repr(each)}
        assert not left
        gate.set()


async def test_a_pinned_image_that_outgrows_its_share_is_named_in_the_log(
    hub: Hub, run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small, large = make_image(1, [20_000]), make_image(2, [5 * 1024 * 1024])
    hub.add(small, NAME, "1")
    async with run(tag_ttl=0, max_size=8 * 1024 * 1024) as mirror:
        await mirror.pull(NAME, "1", small)
        await mirror.settled()
        await pin(tmp_path)
        hub.add(large, NAME, "1")
        await until(lambda: "pinned images do not fit in 4.0 MiB" in caplog.text)
        assert mirror.daemon.store.catalog.pinned_bytes <= 4 * 1024 * 1024


async def test_a_deleted_pinned_tag_keeps_its_content_and_is_asked_about_seldom(
    hub: Hub, run: Run, tmp_path: Path
) -> None:
    def is_gone(seen: Seen) -> bool:
        return is_question(seen) and seen.status == 404

    clock, old = Clock(), add(hub, 1)
    async with run(clock, tag_ttl=0) as mirror:
        await pull(mirror, old, old.images[0])
        await pin(tmp_path)
        hub.untag(NAME, "1")
        await hub.seen(is_gone)
        assert (await mirror.manifest(NAME, "1")).status == 404
        catalog = mirror.daemon.store.catalog
        assert catalog.is_pinned(Digest(old.digest))
        assert catalog.is_pinned(Digest(old.images[0].layers[0].digest))
        assert not await concerned(tmp_path)
        clock.now += 61
        await hub.seen(is_gone, 2)
        await until(lambda: concerned(tmp_path))
        hub.journal.clear()
        clock.now += 61  # the pause is twice as long now
        await asyncio.sleep(0.2)  # several rounds
        assert not hub.journal.entries
        hub.add(old, NAME, "1")
        clock.now += 60
        await hub.seen(lambda seen: is_question(seen) and seen.status == 200, 2)
        assert not await concerned(tmp_path)


async def test_a_deleted_tag_is_back_once_a_client_has_pulled_it(
    hub: Hub, run: Run, tmp_path: Path
) -> None:
    clock, old = Clock(), add(hub, 1)
    async with run(clock, tag_ttl=30, missing_ttl=1) as mirror:
        await pull(mirror, old, old.images[0])
        await pin(tmp_path)
        hub.untag(NAME, "1")

        async def later() -> bool:
            clock.now += 61
            return await concerned(tmp_path)

        await until(later)
        hub.add(old, NAME, "1")
        assert (await mirror.manifest(NAME, "1")).status == 200
        await until(lambda: not_concerned(tmp_path))


async def concerned(tmp_path: Path) -> bool:
    """Whether the status says that a pinned tag is absent."""
    [status] = [each async for each in ordered(tmp_path / "data", StatusOrder())]
    assert isinstance(status, Status)
    found = [each.what for each in status.concerns if each.key == "pins_absent"]
    assert found in (
        [],
        [f"Upstream no longer has pinned tags, or denies them: docker.io/{NAME}:1."],
    )
    return bool(found)


async def not_concerned(tmp_path: Path) -> bool:
    """Whether it says so of none."""
    return not await concerned(tmp_path)


GHCR = "ghcr.example"


@pytest.fixture
async def two(hub: Hub, other: Hub, run: Run, tmp_path: Path) -> AsyncIterator[Mirror]:
    """A mirror of two upstreams, each with one pinned tag, that of the second pinned first."""
    upstreams = {"docker.io": {"url": hub.url}, GHCR: {"url": other.url}}
    image = make_image("ghcr", [20_000])
    other.add(image, NAME, "1")
    async with run(tag_ttl=0, upstreams=upstreams) as mirror:
        for path in ("manifests/1", *(f"blobs/{blob.digest}" for blob in image.blobs)):
            assert (await mirror.ask(f"/v2/{NAME}/{path}?ns={GHCR}")).status == 200
        old = add(hub, 1)
        await pull(mirror, old, old.images[0])
        await pin(tmp_path, f"{GHCR}/{NAME}:1", f"{NAME}:1")
        yield mirror


async def test_an_upstream_that_hangs_delays_its_own_pinned_tags_only(
    hub: Hub, other: Hub, two: Mirror
) -> None:
    gate = asyncio.Event()
    other.faults.add(Fault(kind="manifest", hang=True, until=gate, times=None))
    await other.seen(is_question)
    for seed in (2, 3):
        new = add(hub, seed)
        await until(lambda new=new: two.stored.has(new.images[0].layers[0].digest))  # type: ignore[misc]
    gate.set()


async def test_content_that_hangs_delays_no_pinned_tag_of_another_upstream(
    hub: Hub, other: Hub, two: Mirror
) -> None:
    gate = asyncio.Event()
    other.faults.add(Fault(kind="blob", stall_after=100, until=gate, times=None))
    other.add(make_image("large", [20_000] * 9), NAME, "1")
    await other.seen(lambda seen: seen.kind == "blob" and seen.status == 200, 2)
    new = add(hub, 2)
    await until(lambda: two.stored.has(new.images[0].layers[0].digest))
    gate.set()


async def test_content_that_hangs_delays_no_other_pinned_tag_of_its_upstream(
    hub: Hub, run: Run, tmp_path: Path
) -> None:
    gate = asyncio.Event()
    old, other = add(hub, 1), make_image("other", [20_000])
    hub.add(other, "library/other", "1")
    async with run(tag_ttl=0) as mirror:
        await pull(mirror, old, old.images[0])
        await mirror.pull("library/other", "1", other)
        await mirror.settled()
        await pin(tmp_path, f"{NAME}:1", "library/other:1")
        new, newer = add(hub, 2), make_image("newer", [20_000])
        layer = new.images[0].layers[0].digest
        hub.faults.add(Fault(kind="blob", reference=layer, stall_after=100, until=gate, times=None))
        await hub.seen(lambda seen: seen.kind == "blob" and seen.reference == layer)
        hub.add(newer, "library/other", "1")
        await until(lambda: mirror.stored.has(newer.layers[0].digest))
        gate.set()
