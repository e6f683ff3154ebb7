"""The gate: the causes that shut it, for how long, and the causes that open it; no I/O."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mirror.budget.account import (
    Account,
    BudgetPolicy,
    Verdict,
)
from mirror.budget.budget import CHECKED, Budget
from mirror.budget.ledger import Ledger
from mirror.budget.limit_poller import LimitPoller
from mirror.budget.pull_request import PullRequest
from mirror.budget.window import PROBE_AFTER
from mirror.oci.errors import ReserveKept, TooManyRequests
from mirror.oci.manifest import Hint, Manifest
from mirror.oci.names import HUB, HUB_WINDOW, Reference, Repository, Tag
from mirror.oci.patterns import Patterns
from mirror.storage.metadata.protocol import MetadataStore
from mirror.upstream.telemetry import (
    Observer,
    PullLimit,
    UpstreamResponse,
    names_limit,
    read_limit,
)
from tests.support.folder import DataFolder

REPOSITORY = Repository(HUB, "library/nginx")
CHECK = CHECKED[HUB]
WANT = PullRequest(REPOSITORY, Tag("latest"), "10.0.0.9")


def said(remaining: int, limit: int = 100) -> PullLimit:
    """A limit as upstream reports it."""
    return PullLimit(limit, remaining, HUB_WINDOW, "10.0.0.1")


def answer(
    status: int = 200, repository: str = REPOSITORY.name, **fields: object
) -> UpstreamResponse:
    """The record of an answer to a GET of a manifest, which took no time."""
    given = UpstreamResponse(HUB, "", "manifest", "GET", status, 0.0, repository, "latest")
    return replace(given, spent=status == 429, **fields)  # type: ignore[arg-type]


class Clock:
    """A clock for all parts."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that the test sets."""
    return Clock()


def budget_of(index: MetadataStore, clock: Clock, terms: BudgetPolicy | None = None) -> Budget:
    """A budget as in a new process."""
    ledger = Ledger(index, 0, lambda: 2_000_000_000 + clock.now)
    return Budget(ledger, {HUB: terms or BudgetPolicy()}, clock)


async def again(index: MetadataStore, clock: Clock, terms: BudgetPolicy | None = None) -> Budget:
    """A budget after a restart."""
    await index.flush()
    budget = budget_of(index, clock, terms)
    await budget.load()
    return budget


@pytest.fixture
def budget(index: MetadataStore, clock: Clock) -> Budget:
    """A budget for Docker Hub."""
    return budget_of(index, clock)


# Causes that shut the gate


@pytest.mark.parametrize("retry_after", [None, 0])
def test_a_refusal_that_names_no_time_to_wait_is_heeded_for_ten_seconds(
    retry_after: int | None,
) -> None:
    account = Account(HUB, BudgetPolicy())
    account.observe_limit(said(0), 0, 0)  # others spent the whole limit
    now = PROBE_AFTER + 1
    assert account.verdict(WANT, now) is Verdict.GRANTED  # one pull may find out
    account.shut(retry_after, now)
    assert account.shut_for(now) == 10
    assert isinstance(account.verdict(WANT, now + 9), TooManyRequests)
    assert account.verdict(WANT, now + 10) is Verdict.GRANTED


def test_no_client_is_told_to_retry_before_the_ledger_expects_a_pull() -> None:
    account = Account(HUB, BudgetPolicy())
    for _ in range(100):
        account.count(3600, "10.0.0.9")
    account.observe_limit(said(0), 3600, 3600)
    for wait in (60, None):
        account.shut(wait, 7200)
        assert account.shut_for(7200) == HUB_WINDOW - 3600
    account.shut(30_000, 7200)  # nor sooner than upstream says
    assert account.shut_for(7200) == 30_000
    assert account.shut_for(3600 + HUB_WINDOW) == 30_000 + 7200 - 3600 - HUB_WINDOW


def test_a_refusal_for_the_reserve_tells_when_more_is_left() -> None:
    """Reports of any age give the same time, as no pull finds out about others' pulls meanwhile."""
    account = Account(HUB, BudgetPolicy(reserve=10, reserved_for=Patterns(("team/*",))))
    account.observe_limit(said(10), 0, 0)
    for now in (10, PROBE_AFTER - 1, PROBE_AFTER + 1, 9000):
        refused = account.verdict(WANT, now)
        assert isinstance(refused, ReserveKept)
        assert refused.retry_after == HUB_WINDOW - now


async def test_a_repository_that_was_exempt_and_is_refused_is_so_no_more(budget: Budget) -> None:
    budget.observe(answer(limit=said(0)))
    budget.observe(answer(repository="oss/app"))
    want = replace(WANT, repository=Repository(HUB, "oss/app"))
    assert budget.outlook(want).refusal is None
    budget.observe(answer(429, "oss/app", limit=said(0)))
    assert budget.outlook(want).refusal is not None


# Causes that open the gate


def test_a_question_sent_before_the_refusal_does_not_open_the_gate() -> None:
    account = Account(HUB, BudgetPolicy())
    account.shut(600, 100)
    account.observe_limit(said(50), 99, 101)
    assert account.shut_for(101) == 599
    account.observe_limit(said(50), 100, 102)
    assert account.shut_for(102) == 0


def test_a_limit_that_is_named_no_more_leaves_no_gate() -> None:
    account = Account(HUB, BudgetPolicy())
    account.observe_limit(said(0), 0, 0)
    account.shut(600, 0)
    account.drop_limit()
    assert account.shut_for(1) == 0


async def test_a_limit_in_a_form_that_is_not_known_is_still_a_limit(budget: Budget) -> None:
    budget.observe(answer(429, limit=said(0), retry_after=600))
    headers = {"ratelimit-limit": "100;w=21600, 200;w=86400", "ratelimit-remaining": "0;w=21600"}
    assert read_limit(headers, windowless=True) is None
    assert names_limit(headers)
    budget.observe(answer(repository=CHECK, method="HEAD", garbled=True))
    account = budget.present(HUB)
    assert account.window.limit == 100
    assert account.shut_for(budget.now()) > 0
    assert not names_limit({})
    budget.observe(answer(repository=CHECK, method="HEAD"))
    assert account.window.limit is None
    assert account.shut_for(budget.now()) == 0


async def test_upstream_is_asked_more_often_while_the_gate_is_shut(
    budget: Budget, clock: Clock
) -> None:
    checks = LimitPoller({HUB: _Unasked()}, budget, limit_check=900)
    await checks.check(HUB)
    budget.observe(answer(limit=said(50)))
    clock.now += 61
    assert not checks.due(HUB)
    budget.observe(answer(limit=said(0)))
    clock.now += 9
    assert not checks.due(HUB)
    clock.now += 1
    assert checks.due(HUB)


# Over a restart


async def test_a_gate_that_was_opened_is_open_after_a_restart(
    budget: Budget, index: MetadataStore, clock: Clock
) -> None:
    budget.observe(answer(429, retry_after=600))
    clock.now += 10
    restarted = await again(index, clock)
    assert restarted.present(HUB).shut_for(clock.now) == pytest.approx(590, abs=1)
    restarted.observe(answer(limit=said(50)))
    reopened = await again(index, clock)
    assert reopened.present(HUB).shut_for(clock.now) == 0


async def test_a_gate_that_opened_in_time_is_open_whatever_the_clock_shows_later(
    budget: Budget, index: MetadataStore, clock: Clock
) -> None:
    budget.observe(answer(429, retry_after=600))
    clock.now += 601
    budget.tick()
    clock.now -= 5000  # the wall clock of the next process
    assert (await again(index, clock)).present(HUB).shut_for(clock.now) == 0


async def test_a_limit_that_was_raised_opens_what_only_the_ledger_shut(
    index: MetadataStore, clock: Clock
) -> None:
    budget = budget_of(index, clock, BudgetPolicy(pull_limit=1))
    budget.observe(answer())
    assert budget.present(HUB).shut_for(clock.now) == HUB_WINDOW
    assert (await again(index, clock, BudgetPolicy(pull_limit=1))).present(HUB).shut_for(clock.now)
    assert (
        not (await again(index, clock, BudgetPolicy(pull_limit=2))).present(HUB).shut_for(clock.now)
    )


async def test_an_index_that_was_lost_is_told_of_window_and_gate(
    budget: Budget, index: MetadataStore, clock: Clock, tmp_path: Path
) -> None:
    for left in (9, 8):
        budget.observe(answer(limit=said(left, 10)))
    budget.observe(answer(garbled=True))  # not part of upstream's report
    budget.observe(answer(429, retry_after=600))
    await index.flush()
    with DataFolder(tmp_path).database() as other:
        other.execute("DROP TABLE pull")
    clock.now += 100
    budget.observe(answer(garbled=True))
    await index.flush()
    found = (await again(index, clock)).present(HUB)
    assert (found.window.used(clock.now), found.window.left(clock.now)) == (4, 6)
    assert found.window.others(clock.now) == 0
    assert found.window.reported is not None
    assert clock.now - found.window.reported.at == pytest.approx(100, abs=1)
    assert found.shut_for(clock.now) == pytest.approx(500, abs=1)


class _Unasked:
    """An upstream that is not asked."""

    async def hint(
        self,
        _repository: str,
        _reference: Reference,
        _observe: Observer,
        *,
        insist: bool = False,  # noqa: ARG002 - no answer either way
    ) -> Hint:
        """Return an empty hint."""
        return Hint()

    async def get_manifest(
        self,
        _repository: str,
        _reference: Reference,
        _observe: Observer,
        *,
        retry_as: Reference | None = None,  # noqa: ARG002 - not called
    ) -> Manifest:
        """Fail, as no manifest is asked for."""
        raise AssertionError
