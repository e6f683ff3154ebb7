"""Reservations: for which pulls, from which clients, and for how long at most, without I/O."""

from __future__ import annotations

from dataclasses import replace

from mirror.budget.account import (
    Account,
    BudgetPolicy,
    Verdict,
)
from mirror.budget.pull_request import PullRequest
from mirror.budget.shares import Shares
from mirror.identity.share import Share
from mirror.oci.digest import Digest
from mirror.oci.errors import ReserveKept, ShareSpent
from mirror.oci.names import HUB, HUB_WINDOW, Repository, Tag
from mirror.oci.patterns import Patterns
from mirror.upstream.telemetry import PullLimit

INDEX, OTHER_INDEX = Digest.of(b"index"), Digest.of(b"other index")
AMD64, ARM64 = Digest.of(b"amd64"), Digest.of(b"arm64")
REPOSITORY = Repository(HUB, "library/a")
CLIENT, OTHER = "10.0.0.1", "10.0.0.2"


def account(left: int, terms: BudgetPolicy | None = None, limit: int = 100) -> Account:
    """An account with this number of pulls left at second 0."""
    made = Account("docker.io", terms or BudgetPolicy(max_stale=3600))
    made.observe_limit(PullLimit(limit, left, HUB_WINDOW, "192.0.2.1"), 0, 0)
    return made


def want(
    tag: str, client: str = CLIENT, cost: int = 1, stale_age: float | None = None
) -> PullRequest:
    """Return a client's request for a tag."""
    return PullRequest(REPOSITORY, Tag(tag), client, cost=cost, stale_age=stale_age)


def pull(of: Account, wanted: PullRequest, now: float) -> None:
    """Run a pull that is granted and counted."""
    assert of.verdict(wanted, now) is Verdict.GRANTED
    of.take(wanted)
    of.count(now, wanted.client)
    of.release(wanted)


# Reservations after HEADs


def poll(of: Account, count: int, now: float, begin: int = 0) -> None:
    """Note HEADs that told clients of this number of manifests."""
    for number in range(begin, begin + count):
        of.hint(want(f"tag-{number}", OTHER), None, now)


def test_a_client_that_was_told_of_a_manifest_finds_its_pull() -> None:
    few = account(left=1)
    few.hint(want("new", OTHER), None, 0)
    assert isinstance(few.verdict(want("changed", stale_age=60), 1), ReserveKept)
    assert few.verdict(want("new", OTHER), 1) is Verdict.GRANTED
    assert few.verdict(want("changed", stale_age=60), 30) is Verdict.GRANTED  # no pull came


def test_polling_by_head_holds_back_no_change_while_plenty_is_left() -> None:
    plenty = account(left=99)
    poll(plenty, 120, 0)
    changed = want("changed", stale_age=60)
    assert plenty.verdict(changed, 1) is Verdict.GRANTED
    assert not plenty.holds_back(changed, 1)


def test_polling_many_tags_in_turn_keeps_a_pull_for_each_just_once() -> None:
    few = account(left=10)
    for now in range(600):
        poll(few, 20, now, begin=now * 20 % 3000)
    assert few.verdict(want("changed", stale_age=60), 600) is Verdict.GRANTED


def test_polling_by_head_hides_no_change_for_longer_than_max_stale() -> None:
    few = account(left=10)
    for now in range(100):
        poll(few, 20, now, begin=now * 20)  # other tags each time
    assert isinstance(few.verdict(want("changed", stale_age=3599), 100), ReserveKept)
    assert few.verdict(want("changed", stale_age=3600), 100) is Verdict.GRANTED


# Reservations after indexes


def test_a_pull_is_kept_for_an_indexs_platform_for_half_a_minute() -> None:
    last = account(left=1)
    last.hint(want(INDEX), [AMD64, ARM64], 0)
    refused = last.verdict(want("other", OTHER), 29)
    assert isinstance(refused, ReserveKept)
    assert refused.retry_after == 30
    assert last.verdict(want(ARM64), 29) is Verdict.GRANTED
    assert last.verdict(want("other", OTHER), 30) is Verdict.GRANTED


def test_indexes_with_the_same_platform_keep_no_more_than_it_costs() -> None:
    last = account(left=2)
    last.hint(want(INDEX), [AMD64], 0)
    last.hint(want(OTHER_INDEX), [AMD64], 0)
    pull(last, want(AMD64), 1)
    assert last.verdict(want("other", OTHER), 2) is Verdict.GRANTED


# Shares


def shared(pulls: int) -> Account:
    """An account with enough pulls left, and a share of this number for each client."""
    return account(left=90, terms=BudgetPolicy(shares=Shares({"*": Share(pulls=pulls)})))


def test_a_share_that_takes_an_index_takes_its_platform_too() -> None:
    of = shared(3)
    pull(of, want("plain"), 0)
    pull(of, want(INDEX, cost=2), 1)
    of.hint(want(INDEX), [AMD64], 1)
    assert isinstance(of.verdict(want("other"), 2), ShareSpent)
    pull(of, want(AMD64), 2)
    assert isinstance(of.verdict(want("other"), 3), ShareSpent)


def test_a_share_with_too_little_left_for_an_index_is_spent_on_none() -> None:
    of = shared(3)
    pull(of, want("0"), 0)
    pull(of, want("1"), 1)
    refused = of.verdict(want(INDEX, cost=2), 2)
    assert isinstance(refused, ShareSpent)
    assert "10.0.0.1 has 1 left of 2 wanted of its share of docker.io's" in refused.message
    assert refused.retry_after == HUB_WINDOW - 2
    pull(of, want("2"), 2)


def test_a_share_that_is_never_enough_for_an_index_says_so() -> None:
    refused = shared(1).verdict(want(INDEX, cost=2), 0)
    assert isinstance(refused, ShareSpent)
    assert refused.message == (
        "an image of several platforms costs 2 pulls, more than 10.0.0.1's whole share of "
        "docker.io's pull limit: 1 pulls in 6 h"
    )


def test_a_share_comes_back_when_less_than_all_of_it_is_used() -> None:
    """The share was larger once, so that the return of its oldest pull is not enough."""
    of = shared(2)
    for at in range(5):
        of.count(at * 1000.0, CLIENT)
    refused = of.verdict(want("other"), 5000)
    assert isinstance(refused, ShareSpent)
    assert refused.retry_after == 3 * 1000 + HUB_WINDOW - 5000
    assert of.verdict(want("other"), 3000 + HUB_WINDOW) is Verdict.GRANTED


def test_one_host_with_many_addresses_has_one_share() -> None:
    of = shared(1)
    pull(of, want("0", "2001:db8::1"), 0)
    assert isinstance(of.verdict(want("1", "2001:db8::2"), 1), ShareSpent)
    assert of.verdict(want("1", "2001:db8:0:1::2"), 1) is Verdict.GRANTED


# Pulls that are left


def test_a_reserve_is_kept_from_clients_with_stale_content_too() -> None:
    chosen = BudgetPolicy(reserve=10, reserved_for=Patterns(("team/*",)), max_stale=0)
    of = account(left=10, terms=chosen)
    changed = want("changed", stale_age=9999)
    assert isinstance(of.verdict(changed, 0), ReserveKept)
    assert of.verdict(replace(changed, repository=Repository(HUB, "team/a")), 0) is Verdict.GRANTED


def test_a_change_is_held_back_for_longer_the_less_is_left() -> None:
    for left, longest in ((60, 0), (50, 0), (25, 1800), (5, 3240), (0, 3600)):
        of = account(left)
        assert not of.holds_back(want("changed", stale_age=longest), 0)
        if longest:
            assert of.holds_back(want("changed", stale_age=longest - 1), 0)
