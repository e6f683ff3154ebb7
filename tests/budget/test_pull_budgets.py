"""The promises that every pull budget keeps towards the parts that fetch manifests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import pytest

from mirror.budget.account import BudgetPolicy
from mirror.budget.budget import Budget
from mirror.budget.ledger import Ledger
from mirror.budget.protocol import Outlook, PullBudget
from mirror.budget.pull_request import PullRequest
from mirror.oci import media
from mirror.oci.digest import Digest
from mirror.oci.errors import TooManyRequests
from mirror.oci.manifest import Descriptor
from mirror.oci.names import HUB, HUB_WINDOW, Repository, Tag
from mirror.storage.metadata.protocol import MetadataStore
from mirror.upstream.telemetry import PullLimit, UpstreamResponse
from tests.support.memory_budget import MemoryBudget

Make = Callable[[int | None], PullBudget]

REPOSITORY = Repository(HUB, "library/nginx")
AMD64, ARM64 = Digest.of(b"amd64"), Digest.of(b"arm64")


@pytest.fixture(params=["real", "in memory"])
def make(request: pytest.FixtureRequest, index: MetadataStore) -> Make:
    """A maker of budgets with this number of pulls."""
    if request.param == "in memory":
        return MemoryBudget

    def real(pulls: int | None) -> PullBudget:
        return Budget(Ledger(index, 0), {HUB: BudgetPolicy(pull_limit=pulls)})

    return real


def want(tag: str = "latest", stale_age: float | None = None) -> PullRequest:
    """Return a client's request for a tag, with or without stale content to fall back on."""
    return PullRequest(REPOSITORY, Tag(tag), "10.0.0.9", stale_age=stale_age)


def want_digest(digest: Digest) -> PullRequest:
    """Return a client's request for a digest."""
    return PullRequest(REPOSITORY, digest, "10.0.0.9")


def want_index() -> PullRequest:
    """Return a client's request for an index."""
    return want("multi").resolved(Descriptor(Digest.of(b"index"), media.OCI_INDEX, 100))


def answer(status: int | None = 200, method: str = "GET") -> UpstreamResponse:
    """Return the record of a response."""
    spent = status == 429
    return UpstreamResponse(
        HUB, "", "manifest", method, status, 0.0, REPOSITORY.name, "latest", spent=spent
    )


async def pull(budget: PullBudget, request: PullRequest) -> None:
    """Run a pull that upstream counts."""
    async with budget.admit(request):
        budget.observe(answer(), request)


def refused(budget: PullBudget, request: PullRequest) -> bool:
    """Whether a pull is refused now, both by its outlook and by its admission."""
    refusal = budget.outlook(request).refusal
    if refusal is not None:
        assert (refusal.retry_after or 0) >= 1
        with pytest.raises(TooManyRequests):
            budget.admit(request)
    return refusal is not None


async def test_without_a_limit_nothing_is_refused(make: Make) -> None:
    budget = make(None)
    for number in range(200):
        await pull(budget, want(str(number)))
    assert budget.outlook(want(stale_age=1)) == Outlook()


async def test_as_many_pulls_go_as_there_are(make: Make) -> None:
    budget = make(2)
    for tag in ("0", "1"):
        assert not refused(budget, want(tag))
        assert budget.outlook(want(tag)).gate is None
        await pull(budget, want(tag))
    assert refused(budget, want())
    assert budget.outlook(want()).gate is not None
    assert budget.outlook(want()).limited


async def test_an_outlook_costs_nothing(make: Make) -> None:
    budget = make(1)
    for _ in range(3):
        assert budget.outlook(want()).refusal is None
    await pull(budget, want())


@pytest.mark.parametrize("seen", [answer(404), answer(None), answer(200, "HEAD"), None])
async def test_a_pull_that_is_not_counted_costs_nothing(
    make: Make, seen: UpstreamResponse | None
) -> None:
    budget = make(1)
    for _ in range(3):
        async with budget.admit(want()):
            if seen is not None:
                budget.observe(seen, want())
    assert not refused(budget, want())


async def test_every_counted_response_costs_a_pull(make: Make) -> None:
    budget = make(3)
    async with budget.admit(want()):
        for _ in range(2):  # a wrong body is asked for once more
            budget.observe(answer(), want())
    await pull(budget, want("other"))
    assert refused(budget, want())


async def test_a_response_to_the_mirror_itself_is_counted_too(make: Make) -> None:
    budget = make(1)
    budget.observe(answer())
    assert refused(budget, want())


async def test_a_pull_is_reserved_from_its_grant_on(make: Make) -> None:
    budget = make(1)
    permit = budget.admit(want("0"))
    assert refused(budget, want("1", stale_age=1))
    async with permit:
        assert refused(budget, want("1", stale_age=1))
    assert not refused(budget, want("1", stale_age=1))


async def test_a_failure_ends_the_reservation(make: Make) -> None:
    budget = make(1)
    with pytest.raises(ValueError, match="broken"):
        async with budget.admit(want()):
            raise ValueError("broken")
    assert not refused(budget, want())


@pytest.mark.parametrize("counted", [False, True])
async def test_a_pull_waits_for_the_running_ones_that_decide_about_it(
    make: Make, counted: bool
) -> None:
    budget = make(1)
    async with asyncio.timeout(5):
        async with budget.admit(want("0")):
            assert not refused(budget, want("1"))
            waiting = _entering(budget.admit(want("1")))
            await asyncio.sleep(0)
            assert not waiting.done()
            if counted:
                budget.observe(answer(), want("0"))
        [result] = await asyncio.gather(waiting, return_exceptions=True)
    assert isinstance(result, TooManyRequests) is counted


async def test_a_wait_that_is_cancelled_leaves_nothing_reserved(make: Make) -> None:
    budget = make(1)
    async with budget.admit(want("0")):
        waiting = _entering(budget.admit(want("1")))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    await pull(budget, want("2"))


async def test_an_index_needs_a_pull_for_its_platform(make: Make) -> None:
    budget = make(2)
    assert not refused(budget, want_index())
    await pull(budget, want())
    assert refused(budget, want_index())
    assert refused(budget, want().as_index())
    assert not refused(budget, want())


async def test_a_platform_of_a_pulled_index_finds_its_pull(make: Make) -> None:
    budget = make(3)
    await pull(budget, want_index())
    budget.hint(want_index(), platforms=[AMD64, ARM64])
    await pull(budget, want("0"))
    assert refused(budget, want("1"))
    await pull(budget, want_digest(ARM64))


async def test_an_index_without_missing_platforms_reserves_nothing(make: Make) -> None:
    budget = make(1)
    budget.hint(want_index(), platforms=[])
    assert not refused(budget, want())


async def test_a_manifest_that_a_head_named_finds_its_pull(make: Make) -> None:
    budget = make(1)
    told = want_digest(AMD64)
    budget.hint(told)
    assert refused(budget, want("0", stale_age=1))
    assert not refused(budget, replace(told, stale_age=1))
    await pull(budget, told)


async def test_a_head_keeps_no_pull_from_clients_without_anything_cached(make: Make) -> None:
    budget = make(1)
    budget.hint(want_digest(AMD64))
    await pull(budget, want("0"))


async def test_a_refusal_by_upstream_shuts_the_gate(make: Make) -> None:
    budget = make(9)
    budget.observe(answer(429), want())
    assert budget.outlook(want()).gate is not None
    assert refused(budget, want())


async def test_upstreams_number_of_pulls_left_is_believed(make: Make) -> None:
    budget = make(None)
    limit = PullLimit(100, 1, HUB_WINDOW, "10.0.0.1")
    budget.observe(replace(answer(method="HEAD"), limit=limit))
    assert budget.outlook(want()).limited
    async with budget.admit(want()):
        budget.observe(replace(answer(), limit=replace(limit, remaining=0)), want())
    assert refused(budget, want())


async def test_an_upstream_with_a_limit_counts_pulls_and_no_heads(make: Make) -> None:
    budget = make(9)
    assert budget.counts(HUB)
    assert not budget.outlook(want()).heads_counted


async def test_no_client_without_anything_cached_is_held_back(make: Make) -> None:
    for pulls in (None, 1, 100):
        assert not make(pulls).outlook(want()).held_back


def _entering(permit: AbstractAsyncContextManager[None]) -> asyncio.Task[None]:
    async def enter() -> None:
        async with permit:
            pass

    return asyncio.create_task(enter())
