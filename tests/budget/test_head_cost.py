"""HEADs that upstream counts are noticed by the pulls left, and those of Docker Hub are free."""

from __future__ import annotations

from mirror.budget.head_cost import HeadCost


def after(*left: int | None) -> bool:
    """Whether HEADs seem to be counted after these pulls left; None stands for a counted pull."""
    cost = HeadCost()
    for each in left:
        if each is None:
            cost.pulled()
        else:
            cost.answered(each)
    return cost.counted


def test_heads_that_each_cost_a_pull_are_counted_ones() -> None:
    assert after(9, 8, 7, 6, 5)
    assert not after(9, 8, 7, 6)


def test_a_pull_between_two_heads_says_nothing_about_their_cost() -> None:
    assert not after(9, None, 8, None, 7, None, 6, None, 5)
    assert after(9, 8, 7, None, 3, 2, 1)


def test_pulls_of_other_machines_are_told_from_counted_heads() -> None:
    assert not after(9, 8, 8, 7, 7, 6, 6, 5)
    assert not after(90, 80, 75, 70, 60, 50)


def test_a_free_head_ends_the_suspicion() -> None:
    assert not after(9, 8, 7, 6, 5, 5)
