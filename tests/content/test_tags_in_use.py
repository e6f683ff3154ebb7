"""The tags in use: who is followed, in which order, and in bounded steps."""

from __future__ import annotations

import pytest

from mirror.content.manifests import tags_in_use
from mirror.content.manifests.tags import Tags
from mirror.content.manifests.tags_in_use import TagsInUse
from mirror.oci.digest import Digest
from mirror.oci.manifest import Descriptor
from mirror.oci.names import Repository, Tag
from mirror.storage.metadata.protocol import MetadataStore
from mirror.storage.metadata.rows import TagKey
from tests.support.clock import Clock

REPOSITORY = Repository("docker.io", "library/app")
HUB = REPOSITORY.upstream
TTL = 60.0


class Fleet:
    """Clients that request tags, which upstream confirms when it is asked."""

    def __init__(self, index: MetadataStore, ahead: float = 600) -> None:
        self.clock = Clock()
        self.tags = Tags(index, TTL, 0, self.clock, self.clock.wall)
        self.in_use = TagsInUse(self.tags, TTL, ahead, self.clock)

    def key(self, number: int) -> TagKey:
        """Return the key of a tag."""
        return TagKey(REPOSITORY, Tag(f"v{number}"))

    def confirm(self, key: TagKey) -> None:
        """Have upstream say that a tag means what it meant."""
        self.tags.put(key, Descriptor(Digest.of(key.tag.encode()), "a/b", 1))

    def use(self, many: int) -> None:
        """Request each of so many tags, and again after 20 s."""
        for at in (0, 20):
            self.clock.now = at
            for number in range(many):
                self.request(number)

    def request(self, number: int) -> bool:
        """Request a tag; returns whether that waited for upstream."""
        key = self.key(number)
        tagged = self.tags.get(key)
        if tagged is not None and self.tags.fresh(tagged):
            self.in_use.hit(key, tagged)
            return False
        self.confirm(key)
        asked = self.tags.get(key)
        assert asked is not None
        self.in_use.asked(key, asked)
        return True

    def refresh(self, most: int) -> int:
        """Revalidate tags that are due in so many steps at most; returns their number."""
        revalidated = 0
        for _ in range(most):
            if (entry := self.in_use.take(HUB)) is not None:
                self.confirm(entry.key)
                self.in_use.put_back(entry)
                revalidated += 1
        return revalidated


def test_ten_thousand_hot_tags_are_revalidated_without_a_wait(index: MetadataStore) -> None:
    """There is one entry for each tag, however often it is requested."""
    fleet, many = Fleet(index), 10_000
    for at in (0, 20):
        fleet.clock.now = at
        for number in range(many):
            fleet.request(number)
    assert fleet.in_use.followed(HUB) == many
    waited = 0
    for second in range(21, 200):
        fleet.clock.now = second
        fleet.refresh(many // 10)
        for number in range(second % 10, many, 10):
            waited += fleet.request(number)
    assert waited == 0
    assert fleet.in_use.followed(HUB) == many


def test_more_hot_tags_than_the_pace_allows_cost_no_head_in_vain(index: MetadataStore) -> None:
    """Each HEAD is about a tag that has not ended: a backlog never makes all of them late."""
    fleet, many, pace = Fleet(index), 3000, 10
    waited, revalidated = 0, 0
    for second in range(400):
        fleet.clock.now = second
        for number in range(second % 10, many, 10):
            waited += fleet.request(number)
        revalidated += fleet.refresh(pace)
    periods = many * 400 / TTL
    assert revalidated > 0.8 * pace * 350
    assert waited < 1.2 * periods - 0.6 * revalidated


def test_a_step_looks_at_few_tags_however_many_have_ended(
    index: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tags_in_use, "_LOOKS", 10)
    fleet = Fleet(index)
    fleet.use(100)
    fleet.clock.now = 1000
    for left in range(90, -1, -10):
        assert fleet.in_use.take(HUB) is None
        assert fleet.in_use.followed(HUB) == left
    assert not list(fleet.in_use.upstreams())


def test_a_bounded_number_of_tags_is_followed(
    index: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tags_in_use, "_MOST", 10)
    fleet = Fleet(index)
    fleet.use(100)
    assert fleet.in_use.followed(HUB) == 10


def test_a_tag_is_revalidated_a_dozen_times_in_a_row_at_most(index: MetadataStore) -> None:
    """With a short `tag_ttl`, a long window would be thousands of HEADs for one request."""
    fleet = Fleet(index, ahead=86_400)
    for at in (0, 20):
        fleet.clock.now = at
        fleet.request(1)
    asked = 0
    for second in range(21, 3600):
        fleet.clock.now = second
        asked += fleet.refresh(1)
    assert 12 <= asked <= 16
    assert fleet.in_use.followed(HUB) == 0


def test_a_tag_that_was_removed_and_came_back_is_followed_once(index: MetadataStore) -> None:
    fleet = Fleet(index)
    for at in (0, 20):
        fleet.clock.now = at
        fleet.request(1)
    fleet.tags.drop(fleet.key(1))
    for at in (25, 45):
        fleet.clock.now = at
        fleet.request(1)
    fleet.clock.now = 75
    assert fleet.in_use.take(HUB) is not None
    assert fleet.in_use.take(HUB) is None
