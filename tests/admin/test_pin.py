"""`pin` keeps an image from eviction over restarts; a pinned image is not purged."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from mirror.admin.messages import (
    DuOrder,
    GcOrder,
    LsOrder,
    OrderError,
    Pinned,
    PinOrder,
    PurgeOrder,
    Record,
    ShownImage,
    ShowOrder,
    StoredImages,
    UnpinOrder,
    Usage,
    Work,
)
from tests.standin import Hub, Image, make_image
from tests.support.mirror import Mirror, Run
from tests.support.orders import ordered

MEBIBYTE = 1024 * 1024


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data folder of `run`."""
    return tmp_path / "data"


async def done(folder: Path, order: Work) -> Record:
    """Have an order carried out; returns its one record."""
    [record] = [record async for record in ordered(folder, order)]
    return record


async def pinned(folder: Path, *targets: str) -> Pinned:
    """Pin images."""
    record = await done(folder, PinOrder(targets))
    assert isinstance(record, Pinned)
    return record


async def pull_many(hub: Hub, mirror: Mirror, numbers: range) -> None:
    """Pull images of two mebibytes each."""
    for number in numbers:
        image = make_image(number, [2 * MEBIBYTE])
        hub.add(image, f"library/i{number}", "latest")
        await mirror.pull(f"library/i{number}", "latest", image)
        await mirror.settled()


async def test_a_pinned_image_outlives_a_flood_a_restart_and_gc(
    hub: Hub, run: Run, folder: Path, image: Image
) -> None:
    async with run(max_size=16 * MEBIBYTE) as mirror:
        await mirror.pull("library/nginx", "latest", image)
        await mirror.settled()
        [change] = (await pinned(folder, "nginx")).images
        assert change.refused is None
        assert change.reference == "docker.io/library/nginx:latest"
        assert change.digest == image.digest
        await pull_many(hub, mirror, range(100, 110))
        assert mirror.stored.evicted
    async with run(max_size=16 * MEBIBYTE) as mirror:
        await pull_many(hub, mirror, range(110, 120))
        await done(folder, GcOrder())
        hub.journal.clear()
        await mirror.pull("library/nginx", "latest", image)
        assert not hub.pulls
        assert not any(hub.bodies(blob.digest) for blob in image.blobs)
        await done(folder, UnpinOrder(("nginx:latest",)))
        await pull_many(hub, mirror, range(100, 110))
        await mirror.pull("library/nginx", "latest", image)
        assert any(hub.bodies(blob.digest) for blob in image.blobs)


async def test_pinned_images_are_marked_in_lists(
    mirror: Mirror, folder: Path, image: Image
) -> None:
    await mirror.pull("library/nginx", "latest", image)
    await mirror.settled()
    result = await pinned(folder, "nginx")
    listed, shown, usage = [
        await done(folder, order) for order in (LsOrder(), ShowOrder("nginx:latest"), DuOrder())
    ]
    assert isinstance(listed, StoredImages)
    assert isinstance(shown, ShownImage)
    assert isinstance(usage, Usage)
    assert [each.pinned for each in listed.images] == [True]
    assert (shown.pinned, shown.tags[0].pinned) == (True, True)
    metrics = (await mirror.ask("/metrics")).body.decode()
    assert "mirror_pinned_images 1.0" in metrics
    [size] = re.findall(r"^mirror_pinned_bytes (\S+)$", metrics, re.MULTILINE)
    assert float(size) == usage.pinned
    assert usage.pinned == result.used == result.images[0].bytes == listed.images[0].bytes


async def test_a_pinned_image_is_not_purged_and_the_refusal_says_how(
    mirror: Mirror, folder: Path, image: Image
) -> None:
    await mirror.pull("library/nginx", "latest", image)
    await mirror.settled()
    await pinned(folder, "nginx", f"nginx@{image.digest}")
    for target in ("nginx:latest", "nginx", image.digest, image.layers[0].digest):
        for dry in (False, True):
            with pytest.raises(OrderError, match=r"is pinned: `mirror unpin docker\.io/library/"):
                await done(folder, PurgeOrder(target, dry=dry))
    await done(folder, UnpinOrder(("nginx",)))
    with pytest.raises(OrderError, match="is pinned"):  # still by its digest
        await done(folder, PurgeOrder("nginx:latest"))
    await done(folder, UnpinOrder((f"nginx@{image.digest}",)))
    await done(folder, PurgeOrder("nginx:latest"))
    assert not mirror.stored.digests


async def test_a_pin_follows_its_tag(hub: Hub, run: Run, folder: Path, image: Image) -> None:
    async with run(tag_ttl=0) as mirror:
        await mirror.pull("library/nginx", "latest", image)
        await pinned(folder, "nginx")
        new = make_image(2, [10_000])
        hub.add(new, "library/nginx", "latest")
        await mirror.pull("library/nginx", "latest", new)
        await mirror.settled()
        [change] = (await pinned(folder, "nginx")).images
        assert change.digest == new.digest
        await done(folder, PurgeOrder(f"nginx@{image.digest}"))  # not pinned any more
        with pytest.raises(OrderError, match="is pinned"):
            await done(folder, PurgeOrder(f"nginx@{new.digest}"))


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("nginx:2", "nothing of it is stored"),
        ("other", "nothing of it is stored"),
        ("\x1b", "invalid"),
        ("sha256:" + "a" * 64, "invalid"),
    ],
)
async def test_each_image_of_an_order_is_refused_on_its_own(
    mirror: Mirror, folder: Path, image: Image, target: str, reason: str
) -> None:
    await mirror.pull("library/nginx", "latest", image)
    bad, good = (await pinned(folder, target, "nginx")).images
    assert reason in (bad.refused or "")
    assert good.refused is None
    record = await done(folder, UnpinOrder((target, "nginx", "nginx")))
    assert isinstance(record, Pinned)
    assert [each.refused is None for each in record.images] == [False, True, False]
    assert record.used == 0


async def test_an_image_that_does_not_fit_beside_the_pinned_ones_is_refused(
    hub: Hub, run: Run, folder: Path, image: Image
) -> None:
    async with run(max_size=8 * MEBIBYTE) as mirror:
        await mirror.pull("library/nginx", "latest", image)
        await pull_many(hub, mirror, range(7, 8))
        first, second = (await pinned(folder, "nginx", "i7")).images
        assert first.refused is None
        assert "more, and pinned images take" in (second.refused or "")
        assert (await pinned(folder, "nginx")).limit == 4 * MEBIBYTE


async def test_the_part_for_pins_is_a_key_that_a_start_applies_before_it_evicts(
    hub: Hub, run: Run, folder: Path, image: Image
) -> None:
    async with run(max_size=8 * MEBIBYTE, max_pinned="75%") as mirror:
        await mirror.pull("library/nginx", "latest", image)
        await pull_many(hub, mirror, range(7, 8))
        result = await pinned(folder, "nginx", "i7")
        assert [each.refused for each in result.images] == [None, None]
        assert result.limit == 6 * MEBIBYTE
    async with run(max_size=8 * MEBIBYTE, max_pinned="75%") as mirror:
        await pull_many(hub, mirror, range(8, 12))
        assert mirror.stored.evicted
        assert (await pinned(folder, "nginx", "i7")).used == result.used
        hub.journal.clear()
        await mirror.pull("library/nginx", "latest", image)
        assert not hub.pulls


async def test_a_lost_index_says_that_nothing_is_pinned_any_more(
    run: Run, folder: Path, image: Image, caplog: pytest.LogCaptureFixture
) -> None:
    async with run() as mirror:
        await mirror.pull("library/nginx", "latest", image)
        await pinned(folder, "nginx")
    for name in ("index.db", "index.db-wal", "index.db-shm"):
        (folder / name).unlink(missing_ok=True)
    with caplog.at_level(logging.WARNING):
        async with run():
            pass
    assert "no image is pinned any more" in caplog.text
    caplog.clear()
    async with run():
        pass
    assert "pinned" not in caplog.text


async def test_images_are_pinned_without_a_running_mirror(
    run: Run, folder: Path, image: Image
) -> None:
    async with run() as mirror:
        await mirror.pull("library/nginx", "latest", image)
    assert (await pinned(folder, "nginx")).images[0].refused is None
    with pytest.raises(OrderError, match="is pinned"):
        await done(folder, PurgeOrder("nginx:latest"))
