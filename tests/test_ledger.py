"""The pull ledger: every counted request, and what upstream says of its limit."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from mirror.cache.account import Terms
from mirror.cache.budget import Budget
from mirror.cache.ledger import Ledger
from mirror.cache.window import HUB_WINDOW
from mirror.store.index import Index
from mirror.store.recovery import open_index
from mirror.upstream.answers import Answer, Ask, PullLimit, read_limit, read_retry_after
from tests.conftest import Mirror, Run
from tests.standin import Fault, Hub, Image, make_image

REPOSITORY = "library/nginx"
_STATE = ("limit", "remaining", "used", "others", "window_seconds")


def entries(data: Path) -> list[tuple[object, ...]]:
    """What the ledger holds, read by somebody else."""
    with closing(sqlite3.connect(data / "index.db")) as database:
        return database.execute(
            "SELECT upstream, account, repository, reference, digest, client FROM pull ORDER BY id"
        ).fetchall()


async def test_every_counted_request_is_entered_with_who_asked(
    hub: Hub, run: Run, image: Image, tmp_path: Path
) -> None:
    other = make_image(2)
    hub.add(other, REPOSITORY, "other")
    async with run() as mirror:
        await mirror.manifest(REPOSITORY, "latest")
        await mirror.manifest(REPOSITORY, "latest")
        await mirror.manifest(REPOSITORY, other.digest)
    assert entries(tmp_path / "data") == [
        ("docker.io", "", REPOSITORY, "latest", image.digest, "127.0.0.1"),
        ("docker.io", "", REPOSITORY, other.digest, other.digest, "127.0.0.1"),
    ]
    assert hub.pulls == 2


async def test_a_pull_is_on_the_disk_at_once(
    hub: Hub, mirror: Mirror, image: Image, tmp_path: Path
) -> None:
    await mirror.manifest(REPOSITORY, "latest")
    async with asyncio.timeout(0.5):
        while not entries(tmp_path / "data"):
            await mirror.ask("/healthz")


async def test_a_pull_that_brought_nothing_good_is_counted_all_the_same(
    hub: Hub, run: Run, image: Image, tmp_path: Path
) -> None:
    hub.faults.add(Fault(kind="manifest", method="GET", body=lambda body: body + b" "))
    async with run() as mirror:
        assert (await mirror.manifest(REPOSITORY, image.digest)).status == 502
    assert len(entries(tmp_path / "data")) == 1


async def test_what_upstream_says_of_its_limit_survives_a_restart(
    hub: Hub, run: Run, image: Image
) -> None:
    hub.terms.limit = 100
    async with run() as mirror:
        await mirror.manifest(REPOSITORY, "latest")
        before = await _budget(mirror)
    async with run() as mirror:
        assert await _budget(mirror) == before
    assert before == {
        "mirror_pull_limit": 100.0,
        "mirror_pull_remaining": 99.0,
        "mirror_pull_used": 1.0,
        "mirror_pull_others": 0.0,
        "mirror_pull_window_seconds": 21600.0,
    }


async def test_an_account_has_a_window_of_its_own(hub: Hub, run: Run, image: Image) -> None:
    hub.terms.users = {"robot": "word"}
    hub.terms.account_limit = 200
    account = {"url": hub.url, "private": "everyone", "username": "robot", "password": "word"}
    async with run(upstreams={"docker.io": account}) as mirror:
        await mirror.manifest(REPOSITORY, "latest")
        metrics = (await mirror.ask("/metrics")).body.decode()
    assert 'mirror_pull_limit{account="robot",upstream="docker.io"} 200.0' in metrics


async def test_pulls_leave_the_window_when_their_time_has_come(tmp_path: Path) -> None:
    clock = [1_000_000.0]
    index = await open_index(tmp_path / "index.db")
    budget = _budget_of(index, clock)
    for left in (99, 98, 97):
        budget.note(_counted(limit=PullLimit(100, left, 600, "me")))
        clock[0] += 200
    assert _used(budget) == 2  # the first is as old as the window is long
    await index.flush()
    again = _budget_of(index, clock)
    await again.load()
    assert _used(again) == 2
    clock[0] += 600
    assert _used(again) == 0
    await index.close()


async def test_old_pulls_leave_the_ledger(tmp_path: Path) -> None:
    clock = [1_000_000.0]
    index = await open_index(tmp_path / "index.db")
    _budget_of(index, clock).note(_counted())
    await index.flush()
    clock[0] += 2 * HUB_WINDOW + 1
    await _budget_of(index, clock).load()
    assert await index.pulls(0) == []
    await index.close()


def test_the_forms_of_the_limit_headers_are_read() -> None:
    said = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "20;w=21600"}
    assert read_limit(said | {"docker-ratelimit-source": "10.0.0.1"}) == PullLimit(
        100, 20, 21600, "10.0.0.1"
    )
    assert read_limit({"ratelimit-limit": "5", "ratelimit-remaining": "3"}) == PullLimit(
        5, 3, None, ""
    )
    for bad in ("", "many", "-1", "1;w=x", "9" * 40):
        assert read_limit({"ratelimit-limit": bad, "ratelimit-remaining": "3"}) is None
    assert read_limit({"ratelimit-limit": "5"}) is None


def test_retry_after_is_believed_within_reason() -> None:
    assert read_retry_after({"Retry-After": "60"}) == 60
    assert read_retry_after({"Retry-After": "99999999"}) == 86_400
    for bad in ("", "-1", "soon", "²", "9" * 30, "Mon, 23 Nov 2026 18:00:00 GMT"):
        assert read_retry_after({"Retry-After": bad}) is None


def _counted(limit: PullLimit | None = None) -> Answer:
    ask = Ask("10.0.0.9", "latest")
    return Answer("docker.io", "", "manifest", "GET", 200, 0.1, REPOSITORY, "sha256:0", ask, limit)


def _budget_of(index: Index, clock: list[float]) -> Budget:
    ledger = Ledger(index, keep=0, clock=lambda: clock[0])
    return Budget(ledger, {"docker.io": Terms()}, timer=lambda: clock[0])


def _used(budget: Budget) -> int:
    return budget.present("docker.io").window.used(budget.now())


async def _budget(mirror: Mirror) -> dict[str, float]:
    lines = (await mirror.ask("/metrics")).body.decode().splitlines()
    found = [line.rpartition(" ") for line in lines if line.startswith("mirror_pull_")]
    values = {name.partition("{")[0]: float(value) for name, _, value in found}
    return {f"mirror_pull_{name}": values[f"mirror_pull_{name}"] for name in _STATE}
