"""Pages of `ls` and `show` are found near their images, and equal a walk past all images."""

from __future__ import annotations

import random
from typing import get_args

import pytest

from mirror.admin.messages import LsOrder, ShownImage, StoredImages
from mirror.admin.messages.ls import Sort
from mirror.admin.operations.image_pages import ImagePages
from mirror.admin.operations.show_plan import ShowPlan, plan_show
from mirror.content.manifests.tags import Tags
from mirror.oci import media
from mirror.oci.digest import Digest
from mirror.oci.manifest import Descriptor
from mirror.oci.names import Repository, Tag
from mirror.storage.catalog import Catalog
from mirror.storage.entry import Entry
from mirror.storage.metadata.rows import TagKey
from tests.admin.whole_walk import Row, size_of, walk
from tests.support.memory_metadata import MemoryMetadata

PLACES = [
    Repository(upstream, f"x/{name}")
    for upstream in ("docker.io", "localhost:5000")
    for name in ("a", "a-b", "a/b", "a1", "a_b", "aa", "a.b", "b")
]


def digest(number: int) -> Digest:
    """Return a made-up digest."""
    return Digest(f"sha256:{number:064x}")


BLOBS = [digest(number) for number in range(12)]
MANIFESTS = [digest(100 + number) for number in range(14)]


def entered(chance: random.Random) -> tuple[Catalog, Tags]:
    """Enter a small tangle: blobs, manifests and nested indexes, with links and tags at random."""
    catalog, tags = Catalog(), Tags(MemoryMetadata(), 60, 60)
    for each in BLOBS:
        catalog.add(each, Entry(chance.randrange(20_000), None, 0, 0))
        for place in chance.sample(PLACES, chance.randrange(3)):
            catalog.link(each, place)
    for number, each in enumerate(MANIFESTS):
        if chance.random() < 0.9:
            enter_manifest(catalog, chance, number, each)
    for each in chance.sample([*catalog], 3):
        for place in PLACES:
            if (entry := catalog.get(each)) is not None and len(entry.links) > 1:
                catalog.unlink(each, place)
    for _ in range(12):
        tag(catalog, tags, chance)
    return catalog, tags


def enter_manifest(catalog: Catalog, chance: random.Random, number: int, found: Digest) -> None:
    """Enter a manifest of blobs, or an index of manifests before it."""
    below, kind = BLOBS, media.OCI_MANIFEST
    if number > 5:
        below, kind = MANIFESTS[:number], media.OCI_INDEX
    catalog.add(found, Entry(chance.randrange(20_000), None, chance.randrange(99), 0))
    catalog.describe(found, kind, tuple(chance.sample(below, chance.randrange(4))))
    for place in chance.sample(PLACES, chance.randrange(1, 4)):
        catalog.link(found, place)


def tag(catalog: Catalog, tags: Tags, chance: random.Random) -> None:
    """Tag a manifest, stored or not; a tag may have moved to one that is not stored."""
    key = TagKey(chance.choice(PLACES), Tag(chance.choice(["1", "2", "latest", "zz"])))
    found = chance.choice(MANIFESTS)
    tags.put(key, Descriptor(found, media.OCI_INDEX, 1))
    if catalog.belongs(found, key.repository):
        tags.arrived(key.repository, found)
    if chance.random() < 0.2:
        tags.put(key, Descriptor(digest(999), media.OCI_INDEX, 1))


def rows(page: StoredImages) -> list[Row]:
    """Return the images of a page as the walk has them."""
    return [(each.reference, Digest(each.digest), each.bytes, each.alone) for each in page.images]


@pytest.mark.parametrize("seed", range(300))
def test_a_list_is_the_same_as_by_a_walk_past_everything(seed: int) -> None:
    chance = random.Random(seed)
    catalog, tags = entered(chance)
    expected = walk(catalog, [*tags.known()])
    found: list[Row] = []
    after: str | None = None
    while True:
        order = LsOrder(limit=chance.randrange(1, 6), after=after)
        page, _ = ImagePages(catalog, tags, frozenset(), order).by_name(tags.known(), None)
        assert page.total == len(expected)
        found += rows(page)
        if (after := page.after) is None:
            break
    assert found == expected
    for sort in get_args(Sort):
        pages = ImagePages(catalog, tags, frozenset(), LsOrder(sort=sort))
        walked, _ = pages.walk(tags.known(), [])
        if sort != "name":
            assert sorted(rows(pages.by_rank(walked))) == expected


@pytest.mark.parametrize("seed", range(100))
def test_an_image_is_shown_as_by_a_walk_past_everything(seed: int) -> None:
    catalog, tags = entered(random.Random(seed))
    both = {key: (tags.peek(key), digest) for key, digest in tags.known()}
    known = []
    for key, (tagged, before) in both.items():
        assert tagged is not None
        stored = [each for each in (tagged.found.digest, before) if catalog.get(each)]
        known += [(key, each) for each in stored[:1]]
    for name, found, size, alone in walk(catalog, known):
        plan = plan_show(name, catalog, tags, tags.names(), frozenset())
        assert isinstance(plan, ShowPlan)
        assert (plan.image.digest, plan.image.bytes, plan.image.alone) == (found, size, alone)
    for place in catalog.repositories():
        shown = plan_show(str(place), catalog, tags, tags.names(), frozenset())
        assert isinstance(shown, ShownImage)
        expected = [row for row in walk(catalog, known) if row[0].startswith(f"{place}@")]
        assert list(shown.untagged) == [row[1] for row in expected]
        held = catalog.view().holders()
        mine = {each: where for each, where in held.items() if place in where}
        assert shown.bytes == size_of(catalog, mine)
        assert shown.alone == size_of(catalog, [each for each in mine if len(mine[each]) == 1])
