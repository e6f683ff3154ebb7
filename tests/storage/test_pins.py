"""Pins: the content of a pinned image is not evicted, within half of the bound."""

from __future__ import annotations

import logging
import time

import pytest

from mirror.oci.digest import Digest
from mirror.oci.image_name import ImageName
from mirror.oci.names import Repository, Tag
from mirror.storage import pins as module
from mirror.storage.catalog import Catalog
from mirror.storage.entry import Entry
from mirror.storage.errors import TooManyPins
from mirror.storage.metadata.rows import PinRow
from mirror.storage.pins import Pins
from tests.support.memory_metadata import MemoryMetadata

NGINX = Repository("docker.io", "library/nginx")
ONE, TWO = ImageName(NGINX, Tag("1")), ImageName(NGINX, Tag("2"))
BLOCK = 4096
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def digest(name: object) -> Digest:
    """Return the digest of a made-up content."""
    return Digest.of(str(name).encode())


class Stored:
    """A catalogue with content of one block each, and its pins."""

    def __init__(self, max_size: int = 100 * BLOCK) -> None:
        self.index = MemoryMetadata()
        self.catalog = Catalog()
        self.pins = Pins(self.index, self.catalog)
        self.pins.resize(max_size)

    def blob(self, name: object) -> Digest:
        """Store a blob."""
        self.catalog.add(digest(name), Entry(BLOCK, None, 0))
        return digest(name)

    def manifest(self, name: object, *children: object) -> Digest:
        """Store a manifest, as its arrival does."""
        self.catalog.add(digest(name), Entry(BLOCK, None, 0))
        self.catalog.describe(digest(name), MANIFEST, tuple(map(digest, children)))
        self.pins.arrived(digest(name))
        return digest(name)

    async def restarted(self) -> Pins:
        """Return the pins after a restart that finds the same content."""
        for each in list(self.catalog):
            self.catalog.unpin(each)
        pins = Pins(self.index, self.catalog)
        await pins.load()
        return pins

    def victims(self, count: int) -> list[Digest] | None:
        """Return the victims of an eviction of so many blocks."""
        return self.catalog.victims(count * BLOCK)


@pytest.fixture
def stored() -> Stored:
    """An image of two layers, and two blobs of no image."""
    stored = Stored()
    for name in ("layer", "other", "loose", "free"):
        stored.blob(name)
    stored.manifest("image", "layer", "other", "missing")
    return stored


async def test_pinned_content_is_no_victim_until_it_is_unpinned(stored: Stored) -> None:
    stored.pins.pin(ONE, digest("image"))
    assert stored.victims(2) == [digest("loose"), digest("free")]
    assert stored.victims(3) is None
    assert stored.pins.bytes(ONE) == stored.catalog.pinned_bytes == 3 * BLOCK
    assert len(stored.catalog) == 5
    assert set(stored.catalog) == {*stored.catalog.view()}
    assert [*stored.catalog.manifests()] == [digest("image")]
    assert stored.pins.unpin(ONE)
    assert not stored.pins.unpin(ONE)
    assert stored.catalog.pinned_bytes == 0
    assert len(stored.victims(5) or ()) == 5
    assert await stored.index.pins() == []


def test_content_that_arrives_later_is_pinned_too(stored: Stored) -> None:
    stored.pins.pin(ONE, digest("image"))
    stored.blob("missing")
    assert stored.catalog.is_pinned(digest("missing"))
    stored.manifest("index", "platform")
    stored.pins.pin(TWO, digest("index"))
    stored.manifest("platform", "deep")
    stored.blob("deep")
    assert stored.catalog.is_pinned(digest("platform"))
    assert stored.catalog.is_pinned(digest("deep"))


async def test_a_tag_that_moves_takes_its_pin_along(stored: Stored) -> None:
    stored.pins.pin(ONE, digest("image"))
    stored.manifest("new", "layer", "free")
    stored.pins.moved(NGINX, Tag("1"), digest("new"))
    stored.pins.moved(NGINX, Tag("3"), digest("image"))
    stored.pins.settle(ONE, digest("new"))
    assert stored.catalog.is_pinned(digest("layer"))
    assert stored.catalog.is_pinned(digest("free"))
    assert not stored.catalog.is_pinned(digest("other"))
    assert not stored.catalog.is_pinned(digest("image"))
    [row] = await stored.index.pins()
    assert row.digest == digest("new")


def test_the_former_content_of_a_tag_is_kept_until_the_new_is_whole(stored: Stored) -> None:
    stored.pins.pin(ONE, digest("image"))
    stored.manifest("new", "layer", "free")
    stored.manifest("newer", "layer")
    stored.pins.moved(NGINX, Tag("1"), digest("new"))
    stored.pins.moved(NGINX, Tag("1"), digest("newer"))
    stored.pins.settle(ONE, digest("new"))  # which it does not mean any more
    assert stored.catalog.is_pinned(digest("other"))
    assert not stored.catalog.is_pinned(digest("free"))
    assert stored.pins.holding(digest("other")) is None
    stored.pins.settle(ONE, digest("newer"))
    assert not stored.catalog.is_pinned(digest("other"))
    assert stored.catalog.pinned_bytes == stored.pins.bytes(ONE) == 2 * BLOCK


def test_former_content_leaves_with_its_pin_and_with_a_tag_that_is_back(stored: Stored) -> None:
    stored.pins.pin(ONE, digest("image"))
    stored.manifest("new", "free")
    for each in ("new", "image"):
        stored.pins.moved(NGINX, Tag("1"), digest(each))
    assert stored.catalog.pinned_bytes == stored.pins.bytes(ONE) == 3 * BLOCK
    stored.pins.moved(NGINX, Tag("1"), digest("new"))
    stored.pins.unpin(ONE)
    assert stored.catalog.pinned_bytes == 0


def test_former_content_leaves_where_the_new_may_need_its_room(stored: Stored) -> None:
    stored.pins.resize(10 * BLOCK)
    stored.pins.pin(ONE, digest("image"))
    stored.manifest("new", "free")
    stored.pins.moved(NGINX, Tag("1"), digest("new"))
    assert not stored.catalog.is_pinned(digest("other"))
    assert stored.catalog.pinned_bytes == 2 * BLOCK


async def test_former_content_is_kept_over_restarts_until_the_new_is_whole(stored: Stored) -> None:
    stored.pins.pin(ONE, digest("image"))
    stored.manifest("new", "free")
    stored.pins.moved(NGINX, Tag("1"), digest("new"))
    [row] = await stored.index.pins()
    assert row.digest == digest("image")
    again = await stored.restarted()
    again.resume(NGINX, Tag("1"), digest("new"))
    again.resume(NGINX, Tag("3"), digest("new"))
    assert again.images == stored.pins.images
    assert again.former(ONE) == digest("image")
    assert all(stored.catalog.is_pinned(digest(each)) for each in ("other", "new", "free"))
    again.settle(ONE, digest("new"))
    assert again.former(ONE) is None
    assert not stored.catalog.is_pinned(digest("other"))
    [row] = await stored.index.pins()
    assert row.digest == digest("new")


def test_a_tag_that_moves_to_a_smaller_image_makes_room_for_other_pins(stored: Stored) -> None:
    stored.pins.resize(8 * BLOCK)
    stored.pins.pin(ONE, digest("image"))
    stored.pins.pin(TWO, stored.manifest("second", "missing"))
    stored.manifest("deep", "loose", "free")
    stored.pins.moved(NGINX, Tag("2"), digest("deep"))
    assert not stored.catalog.is_pinned(digest("free"))
    stored.pins.moved(NGINX, Tag("1"), stored.manifest("small"))
    assert stored.catalog.is_pinned(digest("free"))


def test_content_of_two_pinned_images_stays_until_both_are_unpinned(stored: Stored) -> None:
    stored.manifest("second", "layer")
    stored.pins.pin(ONE, digest("image"))
    stored.pins.pin(TWO, digest("second"))
    assert stored.pins.holding(digest("layer")) in (ONE, TWO)
    stored.pins.unpin(ONE)
    assert stored.catalog.is_pinned(digest("layer"))
    stored.pins.unpin(TWO)
    assert not stored.catalog.is_pinned(digest("layer"))
    assert stored.pins.holding(digest("layer")) is None


async def test_an_image_that_does_not_fit_is_refused_with_figures(stored: Stored) -> None:
    stored.pins.resize(5 * BLOCK)
    with pytest.raises(
        TooManyPins,
        match=r"12\.0 KiB more, and pinned images take 0 bytes of the 10\.0 KiB that they may: "
        "50% of max_size, by the key max_pinned",
    ):
        stored.pins.pin(ONE, digest("image"))
    assert not stored.pins.images
    assert stored.catalog.pinned_bytes == 0
    stored.pins.resize(6 * BLOCK)
    stored.pins.pin(ONE, digest("image"))
    stored.pins.pin(TWO, digest("image"))  # takes nothing more
    assert len(await stored.index.pins()) == 2


def test_content_beyond_the_share_may_be_evicted_until_there_is_room(stored: Stored) -> None:
    stored.pins.resize(6 * BLOCK)
    stored.pins.pin(ONE, digest("image"))
    stored.blob("missing")
    assert not stored.catalog.is_pinned(digest("missing"))
    assert digest("missing") in (stored.victims(3) or ())
    stored.pins.resize(8 * BLOCK)
    assert stored.catalog.is_pinned(digest("missing"))


def test_a_smaller_bound_lets_pinned_content_be_evicted_and_says_so(
    stored: Stored, caplog: pytest.LogCaptureFixture
) -> None:
    stored.pins.pin(ONE, digest("image"))
    with caplog.at_level(logging.WARNING):
        stored.pins.resize(4 * BLOCK)
    assert stored.catalog.pinned_bytes == 2 * BLOCK
    assert "pinned images take more than 8.0 KiB" in caplog.text
    assert len(stored.victims(3) or ()) == 3


def test_removed_content_leaves_and_may_come_again(stored: Stored) -> None:
    stored.pins.pin(ONE, digest("image"))
    entry = stored.catalog.remove(digest("layer"))
    assert entry is not None
    assert stored.catalog.pinned_bytes == 2 * BLOCK
    assert stored.catalog.get(digest("layer")) is None
    stored.catalog.put_back(digest("layer"), entry)
    assert stored.catalog.is_pinned(digest("layer"))
    stored.catalog.touch(digest("layer"))


async def test_pins_are_read_again_at_a_start_and_written_to_a_new_index(stored: Stored) -> None:
    stored.pins.pin(ONE, digest("image"))
    before = await stored.index.pins()
    stored.index.lose()
    assert await stored.index.pins() == before
    again = Pins(stored.index, stored.catalog)
    await again.load()
    assert again.images == stored.pins.images


def test_too_many_images_and_parts_are_refused(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_PINS", 1)
    stored.pins.pin(ONE, digest("image"))
    stored.pins.pin(ONE, digest("image"))
    with pytest.raises(TooManyPins, match="1 images are pinned already"):
        stored.pins.pin(TWO, digest("image"))
    stored.pins.unpin(ONE)
    monkeypatch.setattr(module, "_MOST_NEEDED", 4)
    with pytest.raises(TooManyPins, match="4 parts or more"):
        stored.pins.pin(ONE, digest("image"))


def test_an_image_whose_parts_are_not_recorded_is_refused(
    stored: Stored, caplog: pytest.LogCaptureFixture
) -> None:
    stored.manifest("vast", *range(20_000))  # more than the catalogue records of one
    stored.manifest("index", "vast", "image")
    for each in ("vast", "index"):
        with pytest.raises(TooManyPins, match=rf"{digest('vast')} names no parts, or too many"):
            stored.pins.pin(ONE, digest(each))
    assert not stored.pins.images
    assert stored.catalog.pinned_bytes == 0
    stored.pins.pin(ONE, digest("image"))
    with caplog.at_level(logging.WARNING):
        stored.pins.moved(NGINX, Tag("1"), digest("vast"))
    assert f"{digest('vast')} has too many parts" in caplog.text


async def test_a_hostile_image_is_bounded_when_a_pinned_tag_moves_to_it() -> None:
    stored = Stored()
    stored.pins.pin(ONE, stored.manifest("small", "layer"))
    for number in range(20):
        stored.manifest(f"m{number}", "all", *(f"{number}/{each}" for each in range(4000)))
    stored.manifest("all", *(f"m{number}" for number in range(20)))
    began = time.thread_time()
    stored.pins.moved(NGINX, Tag("1"), digest("all"))
    assert time.thread_time() - began < 0.05
    [row] = await stored.index.pins()
    assert row == PinRow(NGINX, Tag("1"), digest("small"), row.pinned_at)
    assert stored.pins.images[ONE].digest == digest("all")


def test_the_parts_of_an_index_with_many_tags_arrive_in_short_steps() -> None:
    stored = Stored(max_size=10**9)
    children = [f"child{number}" for number in range(2000)]
    stored.manifest("index", *children)
    for number in range(100):
        stored.pins.pin(ImageName(NGINX, Tag(f"t{number}")), digest("index"))
    began = time.thread_time()
    for child in children[:10]:
        stored.manifest(child, f"{child}/layer")
    assert time.thread_time() - began < 0.1  # all the needs of each tag would take some seconds
    stored.blob("child9/layer")
    assert stored.catalog.is_pinned(digest("child9/layer"))
    for number in range(100):
        stored.pins.unpin(ImageName(NGINX, Tag(f"t{number}")))
    assert stored.catalog.pinned_bytes == 0


def test_an_eviction_does_not_look_at_pinned_content() -> None:
    stored = Stored(max_size=10**12)
    names = range(10_000)
    for name in names:
        stored.blob(name)
    for each in range(4):
        part = names[each * 2500 : (each + 1) * 2500]
        stored.pins.pin(ImageName(NGINX, Tag(f"p{each}")), stored.manifest(f"m{each}", *part))
    stored.blob("free")
    began = time.thread_time()
    for _ in range(1000):
        assert stored.victims(1) == [digest("free")]
    assert time.thread_time() - began < 0.1  # a look at each entry would take a second


def test_the_catalogue_is_the_same_to_all_others() -> None:
    stored = Stored()
    stored.manifest("image", "layer")
    stored.blob("layer")
    for each in ("image", "layer"):
        stored.catalog.link(digest(each), NGINX)
    stored.pins.pin(ONE, digest("image"))
    assert stored.catalog.any_of(NGINX) == digest("image")
    assert stored.catalog.any_of(NGINX, but=digest("image")) == digest("layer")
    assert stored.catalog.belongs(digest("layer"), NGINX)
    stored.catalog.describe(digest("image"), "other", (), "ghcr.io")
    entry = stored.catalog.get(digest("image"))
    assert entry is not None
    assert entry.type_for("ghcr.io") == "other"
    view = stored.catalog.view()
    assert stored.catalog.manifest_count == 1
    assert (view.manifests, view.blobs) == ([digest("image")], [digest("layer")])
