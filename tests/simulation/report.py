"""The output of a simulation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mirror.util.units import duration
from tests.simulation.play import Score
from tests.simulation.scenarios import Scenario

_HEAD = (
    f"{'':32}{'failed':>16}{'counted':>9}{'HEADs':>8}{'waited':>8}"
    f"{'stale':>7}{'median':>12}{'worst':>12}{'if left':>12}"
)


def table(scenario: Scenario, scores: Sequence[Score], unavoidable: int) -> Iterator[str]:
    """Print the results of the policies in a scenario: a line for each, and the floor.

    `if left` is the worst age of a stale answer while the hub answered and had pulls left.
    """
    first, fleet = scores[0], scenario.fleet
    yield f"{scenario.name}: {first.pulls} pulls of {fleet.tags} tags, {fleet.moves} move a day"
    yield _HEAD
    yield from map(_line, scores)
    yield f"  {'the floor':30}{unavoidable:16}{len(first.wanted):9}"
    yield ""


def _line(score: Score) -> str:
    failed = score.failed.total()
    percent = f"{failed} ({failed / max(1, score.pulls):.1%})" if failed else "0"
    ages = (score.median_stale, score.worst_stale, score.worst_in_plenty)
    times = "".join(f"{duration(age) if age else '-':>12}" for age in ages)
    asked = f"{score.counted:9}{score.heads:8}{score.waited:8}"
    return f"  {score.policy:30}{percent:>16}{asked}{len(score.stale):7}{times}"


def wrong(scenario: Scenario, score: Score, unavoidable: int, most: float) -> Iterator[str]:
    """Tell the promises that the mirror broke; `most` is the longest allowed staleness in seconds.

    Each manifest is fetched once, and none in vain. A hub is not asked if its refusal is foreseen.
    A tag is not stale for longer than is configured while pulls are left.
    """
    if score.counted != len(score.served) or not score.served <= score.wanted:
        yield f"{score.counted} pulls were counted for {len(score.served)} manifests"
    if scenario.strict and score.failed.total() > unavoidable:
        yield f"{score.failed.total()} pulls failed: {dict(score.failed)}"
    if scenario.strict and score.refused:
        yield f"{score.refused} pulls were refused by the hub"
    if score.worst_in_plenty > most:
        yield f"a tag was stale for {duration(score.worst_in_plenty)} while pulls were left"
