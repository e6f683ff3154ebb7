"""The fetcher of manifests alone: its questions to the budget, and its reports to the budget."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirror.budget.pull_request import PullRequest
from mirror.content.manifests.fetcher import ManifestFetcher
from mirror.content.manifests.tags import Tags
from mirror.content.memory_cache import MemoryCache
from mirror.oci.digest import Digest
from mirror.oci.errors import ManifestUnknown, PullLimitSpent, UpstreamUnavailable
from mirror.oci.names import HUB, Repository, Tag
from mirror.storage.blobs.filesystem import open_filesystem
from mirror.storage.startup import open_store
from tests.simulation.hub import Clock, Hub, Terms
from tests.simulation.mirrored import Upstream
from tests.simulation.trace import Name
from tests.standin import Document, Index, make_image, make_index
from tests.support.memory_budget import MemoryBudget
from tests.support.memory_metadata import open_memory

REPOSITORY = Repository(HUB, "library/a")


@dataclass
class Fetching:
    """A fetcher between a model of Docker Hub and a budget of three pulls."""

    fetcher: ManifestFetcher
    budget: MemoryBudget
    hub: Hub

    def add(self, document: Document, tag: str = "latest") -> None:
        """Let the hub have a manifest, by tag and by digest."""
        for reference in (tag, document.digest):
            self.hub.tag(Name(REPOSITORY.name, reference), document)
        if isinstance(document, Index):
            for image in document.images:
                self.add(image, image.digest)

    @property
    def clients(self) -> list[str]:
        """The clients of the GETs that were reported to the budget."""
        seen = [(each, request) for each, request in self.budget.observed if each.method == "GET"]
        return ["" if request is None else request.client for _, request in seen]


@pytest.fixture
async def fetching(tmp_path: Path) -> AsyncIterator[Fetching]:
    """A fetcher without stored content."""
    store = await open_store(tmp_path, 1_000_000, open_filesystem, open_memory)
    clock, budget = Clock(), MemoryBudget(3)
    hub = Hub(Terms(named=False), clock)
    tags, memory = Tags(store.index, 0, 0), MemoryCache(1_000_000)
    fetcher = ManifestFetcher({HUB: Upstream(hub)}, budget, store, tags, memory, clock)
    yield Fetching(fetcher, budget, hub)
    await fetcher.close()
    await store.close()


def want(reference: str = "latest", client: str = "10.0.0.9") -> PullRequest:
    """Return a client's request."""
    digest = ":" in reference
    return PullRequest(REPOSITORY, Digest(reference) if digest else Tag(reference), client)


async def test_one_pull_serves_all_clients_and_is_the_first_ones(fetching: Fetching) -> None:
    image = make_image(1)
    fetching.add(image)
    clients = [f"10.0.0.{number}" for number in range(9)]
    had = await asyncio.gather(*(fetching.fetcher.pull(want(client=each)) for each in clients))
    assert {manifest.body for manifest in had} == {image.manifest}
    assert (fetching.clients, fetching.budget.left) == ([clients[0]], 2)


async def test_without_a_pull_upstream_is_not_asked(fetching: Fetching) -> None:
    fetching.add(make_image(1))
    fetching.budget.left = 0
    with pytest.raises(PullLimitSpent):
        await fetching.fetcher.pull(want())
    with pytest.raises(PullLimitSpent):
        await fetching.fetcher.hint(want())
    assert not fetching.budget.observed


async def test_a_failure_costs_nothing_and_ends_its_permit(fetching: Fetching) -> None:
    with pytest.raises(ManifestUnknown):
        await fetching.fetcher.pull(want())
    fetching.hub.down = True
    with pytest.raises(UpstreamUnavailable):
        await fetching.fetcher.pull(want())
    assert (fetching.budget.left, fetching.budget.running) == (3, 0)


async def test_a_pulled_index_hints_at_its_missing_platforms(fetching: Fetching) -> None:
    images = [make_image(number, architecture=name) for number, name in enumerate(("amd64", "arm"))]
    index = make_index(images)
    fetching.add(index)
    await fetching.fetcher.pull(want(images[0].digest))
    await fetching.fetcher.pull(want())
    [(request, platforms)] = fetching.budget.hinted
    assert (request.digest, request.cost) == (index.digest, 2)
    assert platforms == [images[1].digest]


async def test_a_digest_that_may_be_an_index_is_asked_about_when_it_matters(
    fetching: Fetching,
) -> None:
    index, image = make_index([make_image(1)]), make_image(2)
    fetching.add(index, "multi")
    fetching.add(image)
    fetching.budget.left = 1
    with pytest.raises(PullLimitSpent):
        await fetching.fetcher.pull(want(index.digest))
    assert [each.method for each, _ in fetching.budget.observed] == ["HEAD"]
    assert (await fetching.fetcher.pull(want(image.digest))).body == image.manifest


async def test_a_client_that_is_told_of_a_manifest_is_expected_to_request_it(
    fetching: Fetching,
) -> None:
    fetching.fetcher.expect(want())
    assert fetching.budget.hinted == [(want(), None)]
    fetching.add(make_image(1))
    pull = asyncio.create_task(fetching.fetcher.pull(want()))
    await asyncio.sleep(0)
    fetching.fetcher.expect(want())  # the pull of the fetcher is running
    await pull
    assert len(fetching.budget.hinted) == 1
