"""The promises of `MetadataStore`: one suite, inherited by a test class of each implementation."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mirror.oci.digest import Digest
from mirror.oci.manifest import Descriptor
from mirror.oci.names import Repository, Tag
from mirror.storage.metadata.protocol import MetadataDamaged, MetadataStore
from mirror.storage.metadata.rows import (
    AccountKey,
    AskedRow,
    BlobRow,
    ChildRow,
    Figures,
    GateRow,
    HistoryRow,
    LimitRow,
    LinkRow,
    PinRow,
    PublicityRow,
    PullRow,
    SpenderRow,
    TagKey,
    TagRow,
    TopRow,
    TotalRow,
    TypeRow,
)

ONE, OTHER, THIRD = (Digest.of(text) for text in (b"one", b"other", b"third"))
NGINX = Repository("docker.io", "library/nginx")
ALPINE = Repository("docker.io", "library/alpine")
HUB, ROBOT = AccountKey("docker.io", ""), AccountKey("docker.io", "robot")
NOW = 2_000_000_000


def pull(
    entry: int, at: int = NOW, account: AccountKey = HUB, client: str = "me", session: int = 1
) -> PullRow:
    """A counted request."""
    return PullRow(session, entry, account, at, NGINX.name, "v1", "", client)


def tag(name: str, digest: Digest, checked_at: int) -> TagRow:
    """A tag of the one repository."""
    return TagRow(TagKey(NGINX, Tag(name)), Descriptor(digest, "type", 7), checked_at)


def limit(account: AccountKey, at: int = NOW) -> LimitRow:
    """A report of upstream's on an account's limit."""
    return LimitRow(account, 100, 40, 21_600, "10.0.0.1", at)


class MetadataStoreConformance(ABC):
    """The suite."""

    @abstractmethod
    async def opened(self, folder: Path) -> MetadataStore:
        """Open a folder's store; a second call is a restart, and finds the closed store's rows."""

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[MetadataStore]:
        """An empty store."""
        store = await self.opened(tmp_path)
        yield store
        await store.close()

    @asynccontextmanager
    async def reopened(self, store: MetadataStore, folder: Path) -> AsyncIterator[MetadataStore]:
        """Close a store and open it again, as a restart does."""
        await store.close()
        again = await self.opened(folder)
        try:
            yield again
        finally:
            await again.close()

    # Stored content

    async def test_an_empty_store_has_no_rows(self, store: MetadataStore) -> None:
        for rows in (
            await store.blobs(),
            await store.children(),
            await store.types(),
            await store.links(),
            await store.tags(),
            await store.pins(),
            await store.publicity(),
            await store.limits(),
            await store.gates(),
            await store.pulls(0),
            await store.asked(0),
            await store.spenders("tag", HUB, since=0, most=9),
            await store.history(),
            await store.top(),
        ):
            assert list(rows) == []

    async def test_rows_of_content_outlive_a_restart(
        self, store: MetadataStore, tmp_path: Path
    ) -> None:
        manifest = BlobRow(ONE, 10, "type", NOW, 123_456_789_012_345_678)
        blob, child = BlobRow(OTHER, 20, None, NOW - 1), ChildRow(ONE, OTHER)
        link, other = LinkRow(ONE, NGINX), TypeRow(ONE, "ghcr.io", "other type")
        store.put_blob(manifest)
        store.put_blob(blob)
        store.put_child(child)
        store.put_link(link)
        store.put_type(other)
        async with self.reopened(store, tmp_path) as again:
            assert list(await again.blobs()) == [blob, manifest]  # least recently used first
            assert list(await again.children()) == [child]
            assert list(await again.links()) == [link]
            assert list(await again.types()) == [other]

    async def test_the_newest_write_of_a_row_stays(self, store: MetadataStore) -> None:
        for size in (1, 2):
            store.put_blob(BlobRow(ONE, size, "type", NOW))
            store.put_type(TypeRow(ONE, "ghcr.io", f"type {size}"))
            store.put_tag(tag("v1", (ONE, OTHER)[size - 1], NOW))
            store.put_publicity(PublicityRow(NGINX, size == 2, NOW))
            store.put_asked(AskedRow("docker.io", 3600, size))
            store.put_gate(GateRow(HUB, NOW + size, size))
            await store.flush()
        assert [row.size for row in await store.blobs()] == [2]
        assert [row.media_type for row in await store.types()] == ["type 2"]
        assert [row.found.digest for row in await store.tags()] == [OTHER]
        assert [row.public for row in await store.publicity()] == [True]
        assert [row.pulls for row in await store.asked(0)] == [2]
        assert list(await store.gates()) == [GateRow(HUB, NOW + 2, 2)]

    async def test_pins_outlive_a_restart_until_they_are_dropped(
        self, store: MetadataStore, tmp_path: Path
    ) -> None:
        pins = [
            PinRow(NGINX, Tag("v1"), ONE, NOW),
            PinRow(NGINX, OTHER, OTHER, NOW + 1),
            PinRow(ALPINE, Tag("v1"), ONE, NOW + 2),
        ]
        for row in (pins[0]._replace(digest=THIRD), *reversed(pins)):
            store.put_pin(row)
        async with self.reopened(store, tmp_path) as again:
            assert list(await again.pins()) == pins
            again.drop_pin(NGINX, Tag("v1"))
            again.drop_pin(NGINX, Tag("v9"))
            await again.flush()
            assert list(await again.pins()) == pins[1:]

    async def test_a_use_changes_the_time_alone(self, store: MetadataStore) -> None:
        store.put_blob(BlobRow(ONE, 1, "type", NOW, 5))
        await store.flush()
        store.touch(ONE, NOW + 9)
        store.touch(OTHER, NOW + 9)  # not stored
        await store.flush()
        assert list(await store.blobs()) == [BlobRow(ONE, 1, "type", NOW + 9, 5)]

    async def test_a_digest_leaves_with_all_that_is_known_of_it(self, store: MetadataStore) -> None:
        for digest in (ONE, OTHER):
            store.put_blob(BlobRow(digest, 1, None, NOW))
            store.put_child(ChildRow(digest, THIRD))
            store.put_type(TypeRow(digest, "ghcr.io", "type"))
            store.put_link(LinkRow(digest, NGINX))
        await store.flush()
        store.drop(ONE)
        await store.flush()
        assert [row.digest for row in await store.blobs()] == [OTHER]
        assert list(await store.children()) == [ChildRow(OTHER, THIRD)]
        assert [row.digest for row in await store.types()] == [OTHER]
        assert list(await store.links()) == [LinkRow(OTHER, NGINX)]

    async def test_nothing_is_recorded_of_a_digest_that_is_not_stored(
        self, store: MetadataStore
    ) -> None:
        store.put_child(ChildRow(ONE, THIRD))
        store.put_type(TypeRow(ONE, "ghcr.io", "type"))
        store.put_link(LinkRow(ONE, NGINX))
        await store.flush()
        store.put_blob(BlobRow(ONE, 1, None, NOW))
        await store.flush()
        for rows in (await store.children(), await store.types(), await store.links()):
            assert list(rows) == []

    async def test_a_digest_that_returns_has_nothing_of_what_left_with_it(
        self, store: MetadataStore
    ) -> None:
        for _ in range(2):
            store.put_blob(BlobRow(ONE, 1, "type", NOW))
            store.put_child(ChildRow(ONE, THIRD))
            store.put_link(LinkRow(ONE, NGINX))
            await store.flush()
            store.drop(ONE)
            store.put_blob(BlobRow(ONE, 2, "type", NOW))
            store.put_link(LinkRow(ONE, ALPINE))
            await store.flush()
            assert list(await store.blobs()) == [BlobRow(ONE, 2, "type", NOW)]
            assert list(await store.children()) == []
            assert list(await store.links()) == [LinkRow(ONE, ALPINE)]

    async def test_sums_of_content_follow_each_change(self, store: MetadataStore) -> None:
        assert await store.total() == TotalRow(0, 0, 0)
        store.put_blob(BlobRow(ONE, 4097, None, NOW))
        store.put_blob(BlobRow(OTHER, 1, "type", NOW))
        await store.flush()
        assert await store.total() == TotalRow(2, 1, 3 * 4096)
        store.put_blob(BlobRow(ONE, 4096, "type", NOW))
        store.touch(OTHER, NOW + 1)
        await store.flush()
        assert await store.total() == TotalRow(2, 2, 2 * 4096)
        store.drop(ONE)
        store.drop(THIRD)  # not stored
        await store.flush()
        assert await store.total() == TotalRow(1, 1, 4096)

    async def test_a_link_is_dropped_alone(self, store: MetadataStore) -> None:
        store.put_blob(BlobRow(ONE, 1, None, NOW))
        for repository in (NGINX, ALPINE):
            store.put_link(LinkRow(ONE, repository))
        store.drop_link(LinkRow(ONE, NGINX))
        await store.flush()
        assert list(await store.links()) == [LinkRow(ONE, ALPINE)]

    async def test_equal_repositories_of_links_are_one_object(self, store: MetadataStore) -> None:
        for digest in (ONE, OTHER):
            store.put_blob(BlobRow(digest, 1, None, NOW))
            store.put_link(LinkRow(digest, Repository("docker.io", "library/nginx")))
        await store.flush()
        assert len({id(row.repository) for row in await store.links()}) == 1

    # Tags and repositories

    async def test_tags_and_publicity_outlive_a_restart_by_age(
        self, store: MetadataStore, tmp_path: Path
    ) -> None:
        tags = [tag("new", ONE, NOW), tag("old", OTHER, NOW - 5)]
        repositories = [PublicityRow(NGINX, True, NOW), PublicityRow(ALPINE, False, -1)]
        for row in tags:
            store.put_tag(row)
        for record in repositories:
            store.put_publicity(record)
        async with self.reopened(store, tmp_path) as again:
            assert list(await again.tags()) == tags[::-1]
            assert list(await again.publicity()) == repositories[::-1]
            again.drop_tag(tags[0].key)
            again.drop_publicity(ALPINE)
            await again.flush()
            assert list(await again.tags()) == tags[1:]
            assert list(await again.publicity()) == repositories[:1]

    # The ledger

    async def test_the_ledger_outlives_a_restart_in_the_order_of_entry(
        self, store: MetadataStore, tmp_path: Path
    ) -> None:
        for number, at in enumerate((NOW, NOW - 500, NOW + 3), 1):
            store.add_pull(pull(number, at, client=f"client {number}"))
        store.put_limit(limit(HUB))
        async with self.reopened(store, tmp_path) as again:
            entries = [(row.account, row.at, row.client) for row in await again.pulls(NOW)]
            assert entries == [
                (HUB, NOW, "client 1"),
                (HUB, NOW - 500, "client 2"),  # entered by a wrong clock
                (HUB, NOW + 3, "client 3"),
            ]
            assert [row.client for row in await again.pulls(NOW + 1)] == ["client 3"]
            assert list(await again.limits()) == [limit(HUB)]

    async def test_moved_pulls_are_moved_once(self, store: MetadataStore) -> None:
        store.add_pull(pull(1, session=7))
        await store.flush()
        store.add_pull(pull(1))
        store.move_pulls(1, -30)
        store.add_pull(pull(2))
        for _ in range(2):
            await store.flush()
        assert [row.at for row in await store.pulls(0)] == [NOW, NOW - 30, NOW]

    async def test_the_pulls_of_two_processes_are_all_entered(self, store: MetadataStore) -> None:
        for entry in (1, 2):
            for session in (7, 8):
                store.add_pull(pull(entry, client=f"{session}.{entry}", session=session))
            await store.flush()
        clients = [row.client for row in await store.pulls(0)]
        assert clients == ["7.1", "8.1", "7.2", "8.2"]

    async def test_a_pull_that_is_written_again_counts_once(self, store: MetadataStore) -> None:
        for _ in range(3):
            store.add_pull(pull(1))
            store.add_pull(pull(2))
            await store.flush()
        assert len(await store.pulls(0)) == 2

    async def test_a_limit_knows_the_pulls_that_were_entered_before_it(
        self, store: MetadataStore, tmp_path: Path
    ) -> None:
        store.add_pull(pull(1))
        store.put_limit(limit(HUB))
        store.add_pull(pull(2))
        store.put_limit(limit(HUB))  # replaces the first limit, but keeps its position
        store.add_pull(pull(3))
        store.add_pull(pull(4, account=ROBOT))  # an account without a reported limit
        async with self.reopened(store, tmp_path) as again:
            entries = [row.reported for row in await again.pulls(0)]
            assert entries == [True, True, False, False]

    async def test_a_pull_follows_a_limit_although_all_pulls_before_it_were_pruned(
        self, store: MetadataStore
    ) -> None:
        for entry in (1, 2):
            store.add_pull(pull(entry, NOW - 100))
        store.put_limit(limit(HUB))
        await store.flush()
        await store.prune(NOW, keep=50, words=200)
        assert list(await store.pulls(0)) == []
        store.add_pull(pull(3))
        await store.flush()
        assert [row.reported for row in await store.pulls(0)] == [False]

    async def test_old_entries_leave_the_ledger(self, store: MetadataStore) -> None:
        for number, age in enumerate((100, 10, 0), 1):
            store.add_pull(pull(number, NOW - age))
        for account, age in ((HUB, 100), (ROBOT, 5)):
            store.put_limit(limit(account, NOW - age))
            store.put_gate(GateRow(account, NOW - age, 1))
        for hour in (NOW - 100, NOW):
            store.put_asked(AskedRow("docker.io", hour, 1))
        await store.flush()
        await store.prune(NOW, keep=50, words=20)
        assert [row.at for row in await store.pulls(0)] == [NOW - 10, NOW]
        assert [row.account for row in await store.limits()] == [ROBOT]
        assert [row.account for row in await store.gates()] == [ROBOT]
        assert [row.hour for row in await store.asked(0)] == [NOW]

    async def test_a_clock_far_ahead_prunes_nothing(self, store: MetadataStore) -> None:
        store.add_pull(pull(1))
        await store.flush()
        await store.prune(NOW + 10**8, keep=50, words=20)
        assert len(await store.pulls(0)) == 1

    async def test_the_last_pulls_of_each_account_stay(self, store: MetadataStore) -> None:
        for number in range(1, 9):
            store.add_pull(pull(number, NOW + number, HUB if number % 2 else ROBOT))
        await store.flush()
        await store.keep_last([HUB, ROBOT, AccountKey("ghcr.io", "")], 2)
        assert [row.at - NOW for row in await store.pulls(0)] == [5, 6, 7, 8]

    async def test_a_limit_that_is_named_no_more_is_dropped(self, store: MetadataStore) -> None:
        for account in (HUB, ROBOT):
            store.put_limit(limit(account))
        store.drop_limit(HUB)
        await store.flush()
        assert [row.account for row in await store.limits()] == [ROBOT]

    async def test_the_largest_spenders_come_first(self, store: MetadataStore) -> None:
        for number, client in enumerate(("a", "b", "b", "c", "c"), 1):
            store.add_pull(pull(number, NOW, client=client))
        store.add_pull(pull(6, NOW - 100, client="old"))
        store.add_pull(pull(7, NOW, ROBOT, "robot's"))
        store.add_pull(pull(8, NOW)._replace(repository=""))  # entered anew after a loss
        store.add_pull(pull(9, NOW)._replace(reference=ONE, digest=ONE))
        await store.flush()
        clients = await store.spenders("client", HUB, since=NOW - 10, most=3)
        assert list(clients) == [SpenderRow("b", 2), SpenderRow("c", 2), SpenderRow("a", 1)]
        tags = await store.spenders("tag", HUB, since=NOW - 10, most=3)
        assert list(tags) == [
            SpenderRow("library/nginx:v1", 5),
            SpenderRow(f"library/nginx@{ONE}", 1),
        ]
        [whole] = await store.spenders("repository", HUB, since=NOW - 10, most=3)
        assert whole == SpenderRow("library/nginx", 6)

    # The life of a store

    async def test_pulls_are_written_soon(self, store: MetadataStore) -> None:
        store.add_pull(pull(1))
        flushing = asyncio.create_task(store.flush())
        async with asyncio.timeout(5):
            await store.pulls_written()
        await flushing
        assert store.pending == 0

    async def test_the_history_outlives_a_restart_by_time(
        self, store: MetadataStore, tmp_path: Path
    ) -> None:
        later = HistoryRow(60, NOW + 60, "docker.io", Figures(*range(14)))
        earlier = HistoryRow(60, NOW, "", Figures(*range(1, 15)))
        for row in (later, earlier, earlier._replace(figures=Figures(*range(2, 16)))):
            store.put_history(row)
        gone = HistoryRow(3600, NOW, "docker.io", Figures(*range(14)))
        store.put_history(gone)
        store.drop_history(gone.step, gone.at, gone.upstream)
        async with self.reopened(store, tmp_path) as again:
            newest = earlier._replace(figures=Figures(*range(2, 16)))
            assert list(await again.history()) == [newest, later]

    async def test_the_top_lists_of_an_hour_are_replaced_together(
        self, store: MetadataStore, tmp_path: Path
    ) -> None:
        store.put_top(TopRow(NOW, "image", "old", 7, 70))
        store.put_top(TopRow(NOW + 3600, "client", "me", 2, 20))
        store.drop_top(NOW)
        store.put_top(TopRow(NOW, "image", "new", 8, 80))
        async with self.reopened(store, tmp_path) as again:
            assert list(await again.top()) == [
                TopRow(NOW, "image", "new", 8, 80),
                TopRow(NOW + 3600, "client", "me", 2, 20),
            ]

    async def test_a_store_that_starts_over_is_empty_and_of_use(self, store: MetadataStore) -> None:
        store.put_blob(BlobRow(ONE, 1, None, NOW))
        await store.flush()
        store.put_link(LinkRow(ONE, NGINX))  # still pending
        await store.start_over(MetadataDamaged("found at start"))
        assert list(await store.blobs()) == []
        store.put_blob(BlobRow(OTHER, 1, None, NOW))
        await store.flush()
        assert [row.digest for row in await store.blobs()] == [OTHER]
        assert list(await store.links()) == []

    async def test_a_store_has_a_name(self, store: MetadataStore) -> None:
        assert store.name
        assert store.log_bytes >= 0
        assert not store.is_log("lock")
