"""The fuzz itself: a seed always draws the same plays, verdicts can fail, a short round passes."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fuzz import draw, talks, traps
from tests.fuzz.plays import Ask, Body, Lie, Part, Play, Talk, Trap, read, shown
from tests.fuzz.shapes import made
from tests.fuzz.site import opened
from tests.fuzz.smaller import candidates, shrunk
from tests.fuzz.verdict import LAG, PEAK, REST, STALL, Measured, Wrong, judged, worst

ROUNDS = 40
PING = Talk((Part(b"GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n"),))


# The draw


@pytest.mark.parametrize("seed", [0, 7, 123_456])
def test_the_same_seed_draws_the_same_plays_and_another_seed_others(seed: int) -> None:
    drawn = [draw.plays(seed, number) for number in range(ROUNDS)]
    assert drawn == [draw.plays(seed, number) for number in range(ROUNDS)]
    assert drawn != [draw.plays(seed + 1, number) for number in range(ROUNDS)]
    assert drawn[3] == draw.plays(seed, 3)


def test_a_dozen_rounds_have_all_there_is_to_draw() -> None:
    dealt = [draw.card(7, number) for number in range(len(draw.DECK))]
    assert set(dealt) == set(draw.DECK)
    assert len(draw.DECK) <= draw.DEALT * 12


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_printed_play_can_be_read_again(number: int) -> None:
    plays = draw.plays(11, number)
    assert read(shown(plays)) == plays


def test_a_text_that_is_read_is_a_play_and_runs_nothing() -> None:
    with pytest.raises(TypeError):
        read("Part(data=b'')")
    with pytest.raises(NameError):
        read("__import__('os')")


def test_parts_are_sent_in_blocks_and_one_by_one_where_there_is_a_pause() -> None:
    assert b"".join(Part(b"abc", 50_000).blocks()) == b"abc" * 50_000
    assert len([*Part(b"abc", 50_000).blocks()]) < 10
    assert [*Part(b"abc", 3, 0.1).blocks()] == [b"abc"] * 3


@pytest.mark.parametrize("shape", ["index", "annotations", "referrers", "tags", "image"])
def test_documents_are_no_larger_than_what_clients_take(shape: str) -> None:
    largest = {"index": 49_000, "annotations": 3_900_000, "referrers": 18_000, "tags": 60_000}
    body = Body(shape, largest.get(shape, 20_000))  # type: ignore[arg-type]
    assert len(made(body, "x").data) <= 4 * 1024 * 1024
    assert made(body, "x") != made(body, "y")


def test_every_recipe_draws_plays_that_can_be_made() -> None:
    chance = random.Random(1)
    for recipe in (*talks.TALKS, *traps.TRAPS, talks.mutated, traps.mutated):
        for _ in range(5):
            play = recipe(chance)
            if isinstance(play, Trap):
                assert play.asks
                made(play.blob, "x")


# Shrinking


async def test_the_failing_play_of_many_is_found_and_shrunk() -> None:
    culprit = Trap(
        (Ask("tag", 40), Ask("blob")),
        (Lie("token", fields=(Part(b";", 30_000),), then="hangs"), Lie("ping")),
    )

    async def fails(plays: tuple[Play, ...]) -> bool:
        return any(
            isinstance(play, Trap)
            and any(ask.what == "tag" for ask in play.asks)
            and any(part.times >= 9000 for lie in play.lies for part in lie.fields)
            for play in plays
        )

    [small] = await shrunk((PING, culprit, PING), fails, lambda: True)
    assert isinstance(small, Trap)
    assert small.asks == (Ask("tag"),)
    assert small.lies == (Lie("token", fields=(Part(b";", 15_000),)),)


def test_a_smaller_candidate_is_another_play() -> None:
    for play in draw.plays(3, 5):
        assert play not in [*candidates(play)]


# The verdict


def test_figures_within_their_bounds_are_not_found_wrong() -> None:
    assert judged(Measured(), Measured(), Measured(stall=STALL, lag=LAG)) == []


@pytest.mark.parametrize(
    "now",
    [
        Measured(stall=STALL + 0.01),
        Measured(lag=LAG + 0.01),
        Measured(peak=PEAK + 1),
        Measured(resident=REST + 1),
        Measured(descriptors=1000),
        Measured(threads=1000),
        Measured(rows=1_000_000),
        Measured(empties=1),
        Measured(partials=1000),
    ],
)
def test_a_stall_and_growth_are_found_wrong(now: Measured) -> None:
    assert len(judged(Measured(), Measured(), now)) == 1


def test_a_lag_of_an_earlier_round_is_told_once() -> None:
    earlier = Measured(lag=3)
    assert judged(Measured(), earlier, replace(earlier)) == []


def test_the_worst_fault_is_the_one_to_shrink() -> None:
    assert worst([Wrong("growth", ""), Wrong("stall", ""), Wrong("memory", "")]) == "stall"


# A whole round


async def test_a_short_round_against_the_real_daemon_passes(tmp_path: Path) -> None:
    plays = (PING, Talk((Part(b"\x16\x03\x01"),), 3), Trap((Ask("tag"), Ask("blob"))))
    async with asyncio.timeout(90), opened(tmp_path / "data") as site:
        assert await site.play(plays, "test") == []
        assert await site.stop(plays) == []
