"""Shares: who spends whose, what is remembered of whom, and who waits for whom."""

from __future__ import annotations

import asyncio

import pytest

from mirror.cache.account import Go, Terms, Want
from mirror.cache.budget import Budget
from mirror.cache.ledger import Ledger
from mirror.cache.shares import Share, Shares, Spending
from mirror.oci.names import Repository
from mirror.store.index import Index

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
        ("", ""),
    ],
)
def test_the_most_specific_share_that_names_a_client_is_the_one(client: str, party: str) -> None:
    found = SHARES.party(client)
    assert found is not None
    assert found[0] == party


def test_who_is_not_named_is_not_bounded_where_nobody_else_is() -> None:
    assert Shares({"10.0.0.0/8": Share(pulls=1)}).party("192.0.2.1") is None


def test_a_share_is_never_nothing() -> None:
    assert Share(percent=1).of(10) == 1
    assert Share(percent=25).of(100) == 25


def test_what_is_spent_is_forgotten_with_its_window() -> None:
    spending = Spending()
    for number in range(1000):
        party = str(number)
        spending.run(party, 2)
        spending.count(float(number), party, 10.0)
        spending.run(party, -2)
    assert len(spending) == 10
    assert spending.used("999", 999.0, 10.0) == 1
    assert spending.used("999", 1009.0, 10.0) == 0
    assert len(spending) == 0


async def test_who_waits_for_a_pull_that_has_ended_already_goes_on(index: Index) -> None:
    budget = Budget(Ledger(index, 0), {"docker.io": Terms(limit=1)})
    account, repository = budget.present("docker.io"), Repository("docker.io", "library/a")
    first = budget.admit(repository, Want("library/a", "1", "10.0.0.1"))
    assert account.verdict(Want("library/a", "2", "10.0.0.1"), budget.now()) is Go.WAIT
    second = budget.admit(repository, Want("library/a", "2", "10.0.0.1"))
    async with first:
        pass  # not counted: upstream had no such thing
    async with asyncio.timeout(1), second:
        assert account.window.left(budget.now()) == 0
