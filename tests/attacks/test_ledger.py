"""Pulls that are counted again and again fill neither the disk nor memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from mirror.budget import window
from mirror.budget.window import MOST_PULLS, Window
from mirror.oci import media
from mirror.upstream.telemetry import PullLimit, read_limit
from tests.attacks.raw import Raw, answer, speaking
from tests.standin import Hub, Image
from tests.support.folder import DataFolder
from tests.support.mirror import Run
from tests.support.pace import at_most
from tests.support.waiting import until

MOST = 20


async def test_made_up_names_leave_no_more_in_the_ledger_than_the_last_pulls(
    hub: Hub, run: Run, image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pulls of other upstreams stay in it."""
    monkeypatch.setattr("mirror.budget.ledger.MOST_PULLS", MOST)
    monkeypatch.setattr("mirror.budget.ledger._MORE", MOST)
    async with speaking(Raw()) as raw:
        raw.answers["/manifests/"] = answer(b"{}", b"Content-Type: " + media.JSON.encode())
        upstreams = {"docker.io": {"url": hub.url}, "bad.example": {"url": raw.url}}
        async with run(upstreams=upstreams) as mirror, asyncio.timeout(30):
            assert (await mirror.manifest("library/nginx", "latest")).status == 200
            asks = (mirror.manifest("bad.example/a/b", f"made-up-{n}") for n in range(3 * MOST))
            await asyncio.gather(*asks)
            await until(lambda: _pulls(tmp_path / "data")["bad.example"] <= MOST)
    assert _pulls(tmp_path / "data") == {"docker.io": 1, "bad.example": MOST}


def _pulls(data: Path) -> Counter[str]:
    """Count the pulls in the ledger, by upstream."""
    return Counter(
        str(upstream) for (upstream,) in DataFolder(data).rows("SELECT upstream FROM pull")
    )


def test_pulls_of_an_upstream_without_a_limit_are_remembered_up_to_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(window, "MOST_PULLS", MOST)
    pulls = Window()
    for at in range(10 * MOST):
        pulls.count(float(at))
    assert pulls.pulls(10.0 * MOST) == [float(at) for at in range(9 * MOST, 10 * MOST)]


def test_a_reported_limit_costs_the_same_after_any_number_of_pulls() -> None:
    told = PullLimit(999_999_999, 999_999_998, 86_400, "")
    pulls = Window()
    for number in range(MOST_PULLS):
        pulls.count(number / 10, number / 10 - 1, reported=True)
    with at_most(100 * 0.001):
        for number in range(100):
            now = MOST_PULLS / 10 + number
            pulls.count(now, now - 1, reported=True)
            pulls.observe(told, now - 1, now)


@pytest.mark.parametrize("years", ["999999999", "2678401"])
async def test_a_window_of_years_is_no_limit(hub: Hub, run: Run, years: str) -> None:
    """The ledger of all upstreams would be kept for as long, and read at each start."""
    assert read_limit({"ratelimit-limit": "9;w=1", "ratelimit-remaining": "9"}, windowless=True)
    lines = (b"RateLimit-Limit: 99;w=" + years.encode(), b"RateLimit-Remaining: 98")
    async with speaking(Raw()) as raw:
        raw.answers["/manifests/"] = answer(b"{}", b"Content-Type: a/b", *lines)
        upstreams = {"docker.io": {"url": hub.url}, "bad.example": {"url": raw.url}}
        async with run(upstreams=upstreams) as mirror:
            await mirror.manifest("bad.example/a/b", "latest")
            assert (
                b'mirror_pull_limit{account="",upstream="bad.example"}'
                not in (await mirror.ask("/metrics")).body
            )
