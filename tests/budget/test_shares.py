"""Shares: the share that a pull counts for, the memory of pulls, and clients that wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirror.budget.account import BudgetPolicy, Verdict
from mirror.budget.budget import Budget
from mirror.budget.ledger import Ledger
from mirror.budget.pull_request import PullRequest
from mirror.budget.shares import Shares, Spending
from mirror.content.manifests.fetcher import ManifestFetcher
from mirror.content.manifests.tags import Tags
from mirror.content.memory_cache import MemoryCache
from mirror.identity.client import MIRROR_ITSELF
from mirror.identity.share import Share
from mirror.oci.digest import Digest
from mirror.oci.errors import ShareSpent
from mirror.oci.manifest import Descriptor, Manifest
from mirror.oci.names import Repository, Tag
from mirror.storage.blobs.filesystem import open_filesystem
from mirror.storage.metadata.protocol import MetadataStore
from mirror.storage.startup import open_store
from mirror.storage.store import Store
from tests.simulation import hub as model
from tests.simulation.mirrored import Upstream
from tests.simulation.trace import Name
from tests.standin import Image, make_image
from tests.support.memory_metadata import open_memory

SHARES = Shares(
    {
        "10.0.0.0/8": Share(percent=30),
        "10.1.0.0/16": Share(pulls=5),
        "10.1.1.1/32": Share(pulls=1),
        "2001:db8::/32": Share(pulls=7),
        "*": Share(percent=10),
    }
)


@pytest.mark.parametrize(
    ("client", "party"),
    [
        ("10.9.9.9", "10.0.0.0/8"),
        ("10.1.9.9", "10.1.0.0/16"),
        ("10.1.1.1", "10.1.1.1/32"),
        ("::ffff:10.1.1.1", "10.1.1.1/32"),
        ("2001:db8::1", "2001:db8::/32"),
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db9::1", "2001:db9::/64"),
        ("2001:db9::ffff:2", "2001:db9::/64"),
        ("2001:db9:0:1::1", "2001:db9:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_the_most_specific_share_that_names_a_client_is_the_one(client: str, party: str) -> None:
    found = SHARES.party(client)
    assert found is not None
    assert found[0] == party


def test_a_client_outside_all_shares_is_not_bounded() -> None:
    assert Shares({"10.0.0.0/8": Share(pulls=1)}).party("192.0.2.1") is None


def test_what_the_mirror_asks_for_itself_is_of_no_share() -> None:
    assert SHARES.party(MIRROR_ITSELF) is None


def test_a_share_is_never_nothing() -> None:
    assert Share(percent=1).of(10) == 1
    assert Share(percent=25).of(100) == 25


def test_spent_pulls_are_forgotten_with_their_window() -> None:
    spending = Spending(Shares({"*": Share(5)}))
    for number in range(1000):
        party = str(number)
        spending.run(party, 2)
        spending.count(float(number), party, 10.0)
        spending.run(party, -2)
    assert len(spending) == 10
    assert spending.used("999", 999.0, 10.0) == 1
    assert spending.used("999", 1009.0, 10.0) == 0
    assert len(spending) == 0


async def test_a_wait_for_a_pull_that_has_ended_already_ends(index: MetadataStore) -> None:
    budget = Budget(Ledger(index, 0), {"docker.io": BudgetPolicy(pull_limit=1)})
    account, repository = budget.present("docker.io"), Repository("docker.io", "library/a")
    requests = [PullRequest(repository, Tag(tag), "10.0.0.1") for tag in "12"]
    first = budget.admit(requests[0])
    assert account.verdict(requests[1], budget.now()) is Verdict.PENDING
    second = budget.admit(requests[1])
    async with first:
        pass  # not counted: missing at upstream
    async with asyncio.timeout(1), second:
        assert account.window.left(budget.now()) == 0


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """An empty store."""
    opened = await open_store(tmp_path, 1_000_000, open_filesystem, open_memory)
    yield opened
    await opened.close()


async def test_a_client_that_joins_a_pull_with_a_spent_share_gets_the_manifest(
    store: Store,
) -> None:
    """Two pulls of one client wait for running ones, but its share has room for only one."""
    shares = Shares({"10.0.0.1": Share(pulls=1)})
    terms, clock = {"docker.io": BudgetPolicy(pull_limit=2, shares=shares)}, model.Clock()
    budget = Budget(Ledger(store.index, 0), terms, clock)
    upstream = model.Hub(model.Terms(limit=2), clock)
    tags, memory = Tags(store.index, 0, 0), MemoryCache(1_000_000)
    registries = {"docker.io": Upstream(upstream)}
    pulls = ManifestFetcher(registries, budget, store, tags, memory, clock)
    repository, images = Repository("docker.io", "library/a"), [make_image(0), make_image(1)]

    def pull(client: str, image: Image) -> asyncio.Task[object]:
        upstream.tag(Name("library/a", image.digest), image)
        found = Descriptor(Digest(image.digest), image.media_type, image.size)
        request = PullRequest(repository, found.digest, client).resolved(found)
        return asyncio.create_task(pulls.pull(request))

    permits = [budget.admit(PullRequest(repository, Tag(tag), "10.0.0.9")) for tag in "12"]
    for permit in permits:
        await permit.__aenter__()
    greedy = [pull("10.0.0.1", image) for image in images]
    await asyncio.sleep(0)
    assert repr(pulls) == "<ManifestFetcher: 2 running>"
    others = [pull("10.0.0.2", images[1])]
    await asyncio.sleep(0)
    for permit in permits:
        await permit.__aexit__(None, None, None)  # not counted: missing at upstream
    for _ in range(5):  # clients join at every moment of the refusal
        others.append(pull("10.0.0.2", images[1]))
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        had, refused, *joined = await asyncio.gather(*greedy, *others, return_exceptions=True)
    assert isinstance(refused, ShareSpent)
    assert {type(each) for each in (had, *joined)} == {Manifest}
    assert upstream.counted == 2
    assert pulls.refusal(repository, Digest(images[1].digest)) is None
    await pulls.close()
