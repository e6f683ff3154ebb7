"""The torture itself: a seed always has the same plan, checks can fail, a short round passes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from mirror.app.daemon import running
from mirror.settings import load
from tests.standin import Blob
from tests.support.folder import DataFolder
from tests.torture import checks, disk, report
from tests.torture.checks import Circumstances, Failures
from tests.torture.clients import End, Outcome
from tests.torture.disk import Descriptors, Rows
from tests.torture.plan import (
    MOODS,
    QUIET,
    Denial,
    FaultPlan,
    RoundPlan,
    Trouble,
    plan_image,
    plan_round,
)
from tests.torture.rounds import Counted, torture

BLOB = Blob.of(b"x" * 10_000)
OTHER = Blob.of(b"y" * 10_000)
FAULT = FaultPlan("corrupt", 0, 0, 0.5, 1)


# The plan


@pytest.mark.parametrize("seed", [0, 1, 7, 123_456])
def test_the_same_seed_makes_the_same_plan_and_another_seed_another(seed: int) -> None:
    assert [plan_round(seed, n) for n in range(20)] == [plan_round(seed, n) for n in range(20)]
    assert [plan_image(seed, n) for n in range(50)] == [plan_image(seed, n) for n in range(50)]
    assert plan_round(seed, 3) != plan_round(seed + 1, 3)
    assert plan_round(seed, 3) != plan_round(seed, 4)


@pytest.mark.parametrize("seed", range(5))
def test_the_first_rounds_have_every_mood_and_quiet_ones_disturb_nothing(seed: int) -> None:
    plans = [plan_round(seed, number) for number in range(100)]
    assert [plan.mood for plan in plans[: len(MOODS)]] == list(MOODS)
    for plan in (plan for plan in plans if plan.mood in QUIET):
        assert not plan.kills
        assert not plan.outages
        assert not {client.manner for client in plan.clients} & {"leaves", "deaf"}


@pytest.mark.parametrize("number", range(30))
def test_a_plan_keeps_within_its_round(number: int) -> None:
    plan = plan_round(7, number)
    assert all(0 <= client.begins < plan.lasts for client in plan.clients)
    assert all(0 < kill <= plan.lasts for kill in plan.kills)
    assert all(outage.begins + outage.lasts < plan.lasts for outage in plan.outages)
    assert {fault.image for fault in plan.faults} <= set(plan.tags)


# The checks, each with a planted fault


def around(*faults: FaultPlan, held: bool = False, dead: bool = False) -> Circumstances:
    """A round with these faults, all of them for BLOB."""
    plan: RoundPlan = replace(plan_round(1, 0), faults=faults, outages=(), kills=())
    pairs = frozenset({(BLOB.digest, "team-0/app")} if held else ())
    return Circumstances(plan, pairs, lambda _: BLOB.digest, lambda _began, _ended: dead)


def got(end: End, status: int | None = 200) -> Outcome:
    """A client's request for BLOB with this end."""
    return Outcome("blob", 0, BLOB.digest, "plain", end, 1.0, 2.0, status=status)


@pytest.mark.parametrize("end", ["wrong", "hung"])
def test_a_wrong_body_and_a_hang_are_never_explained(end: End) -> None:
    assert checks.clients([got(end)], around(FAULT, dead=True))


def test_a_failure_passes_only_where_the_plan_explains_it() -> None:
    refusal = replace(FAULT, trouble="429")
    assert checks.clients([got("cut")], around())
    assert checks.clients([got("refused", 503)], around(replace(FAULT, trouble="cut")))
    assert not checks.clients([got("cut")], around(FAULT))
    assert not checks.clients([got("refused", 429)], around(refusal))
    assert checks.clients([got("refused", 429)], around(refusal, held=True))
    assert not checks.clients([got("cut")], around(dead=True))


@pytest.mark.parametrize(("trouble", "status"), [("401", 403), ("403", 403), ("404", 404)])
def test_a_denial_by_mistake_explains_a_refusal_of_that_alone(
    trouble: Trouble, status: int
) -> None:
    mistake = replace(FAULT, trouble=trouble)
    assert not checks.clients([got("refused", status)], around(mistake))
    assert checks.clients([got("refused", status)], around(mistake, held=True))
    assert checks.clients([got("refused", status)], around(replace(mistake, blob=None)))
    assert checks.clients([replace(got("refused", status), digest=OTHER.digest)], around(mistake))


@pytest.mark.parametrize("trouble", ["bad_range", "no_head"])
def test_a_shortcut_that_is_refused_explains_nothing(trouble: Trouble) -> None:
    assert checks.clients([got("refused", 503)], around(replace(FAULT, trouble=trouble)))


def test_a_token_service_that_denies_explains_missing_content() -> None:
    plan = replace(around().plan, denials=(Denial(0.1, 0.5, 403),))
    assert not checks.clients([got("refused", 403)], replace(around(), plan=plan))
    assert checks.clients([got("refused", 403)], replace(around(held=True), plan=plan))


def test_a_kept_tag_may_be_missing_only_where_the_registry_says_so() -> None:
    missing = replace(got("refused", 404), kind="tag", digest="")
    known = {"team-0/app": BLOB.digest}
    mistake = replace(FAULT, trouble="404", blob=None)
    disowned = replace(around(mistake, held=True), tags=known)
    assert not checks.clients([missing], disowned)
    assert checks.failures([missing], disowned) == Failures(1, 1, 0, 0)
    down = replace(missing, status=503)
    assert checks.clients([down], replace(around(FAULT, held=True), tags=known))


def test_failed_requests_are_counted_beside_those_for_stored_content() -> None:
    outcomes = [got("complete"), got("refused", 503), got("left")]
    assert checks.failures(outcomes, around()) == Failures(2, 1, 0, 0)
    assert checks.failures(outcomes, around(held=True)) == Failures(2, 1, 2, 1)
    assert checks.failures(outcomes, around(dead=True)) == Failures()


def test_a_wrong_range_passes_only_where_upstream_spoilt_the_blob() -> None:
    assert checks.clients([got("unproven", 206)], around(replace(FAULT, trouble="cut")))
    assert not checks.clients([got("unproven", 206)], around(FAULT))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
def test_an_error_that_upstream_never_gave_is_not_honest(status: int) -> None:
    assert checks.clients([got("refused", status)], around(FAULT))


def test_upstream_bytes_beyond_the_bound_are_found() -> None:
    blobs = {BLOB.digest: BLOB}

    def wrong(count: int, within: Circumstances, *, strict: bool = True) -> list[str]:
        asked = [got("complete")] * 3
        return checks.upstream({BLOB.digest: count}, blobs, asked, within, undisturbed=strict)

    assert not wrong(10_500, around())
    assert wrong(10_501, around())
    assert wrong(1, around(held=True))
    assert not wrong(10_500, around(replace(FAULT, trouble="no_head"), held=True))
    assert not wrong(21_000, around(FAULT))
    assert wrong(21_001, around(FAULT))
    assert not wrong(46_500, around(), strict=False)
    assert wrong(46_501, around(), strict=False)


def test_a_disk_beyond_its_bound_is_found(folder: Path) -> None:
    plant(folder, BLOB)
    taken = disk.used(folder)
    assert taken >= BLOB.size
    assert checks.bound(taken, taken - 1)
    assert not checks.bound(taken, taken)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty data folder, laid out as the daemon does."""
    (tmp_path / "blobs/sha256").mkdir(parents=True)
    (tmp_path / "partial").mkdir()
    return tmp_path


def plant(folder: Path, blob: Blob, content: bytes | None = None) -> None:
    """Store a blob, or other bytes under its name."""
    name = blob.digest.removeprefix("sha256:")
    (folder / "blobs/sha256" / name[:2]).mkdir(parents=True, exist_ok=True)
    (folder / "blobs/sha256" / name[:2] / name).write_bytes(content or blob.read())


def test_a_wrong_file_is_found(folder: Path) -> None:
    plant(folder, BLOB)
    assert not checks.files(folder)
    plant(folder, BLOB, OTHER.read())
    assert checks.files(folder)


def test_an_index_that_differs_from_the_files_is_found(folder: Path) -> None:
    def rows(*blobs: Blob, size: int = BLOB.size) -> Rows:
        return Rows({blob.digest: size for blob in blobs}, frozenset())

    plant(folder, BLOB)
    assert not checks.index(folder, rows(BLOB))
    assert checks.index(folder, rows())
    assert checks.index(folder, rows(BLOB, OTHER))
    assert checks.index(folder, rows(BLOB, size=1))


async def test_the_index_of_a_real_daemon_is_read(tmp_path: Path) -> None:
    async with running(load({"listen": "127.0.0.1:0", "data_dir": tmp_path})):
        pass
    plant(tmp_path, BLOB)
    async with running(load({"listen": "127.0.0.1:0", "data_dir": tmp_path})):
        pass
    assert disk.rows(tmp_path).sizes == {BLOB.digest: BLOB.size}
    assert not checks.index(tmp_path, disk.rows(tmp_path))
    with DataFolder(tmp_path).database() as database:
        database.execute("DELETE FROM blob")
    assert checks.index(tmp_path, disk.rows(tmp_path))


def test_a_leaked_partial_is_found(folder: Path) -> None:
    blobs = {BLOB.digest: BLOB}
    partial = folder / "partial" / BLOB.digest.replace(":", "-")
    partial.write_bytes(BLOB.read()[:100])
    assert not checks.partials(folder, blobs)  # to be resumed
    partial.write_bytes(BLOB.read() + b"z")
    assert checks.partials(folder, blobs)
    partial.write_bytes(BLOB.read())
    plant(folder, BLOB)
    assert checks.partials(folder, blobs)  # and kept
    partial.rename(folder / "partial" / "whole-abcdef")
    assert checks.partials(folder, blobs)


def test_a_partial_that_is_on_no_book_is_found(folder: Path) -> None:
    assert not checks.accounting(folder, accounted=640, wal=640)
    (folder / "partial" / BLOB.digest.replace(":", "-")).write_bytes(bytes(500_000))
    assert checks.accounting(folder, accounted=640, wal=640)


def test_leaked_descriptors_and_threads_are_found() -> None:
    base = Descriptors((), 3, 10)
    assert not checks.leaks(base, base, threads=12)
    assert checks.leaks(base, Descriptors(("blobs/sha256/ab/cd",), 3, 10), threads=12)
    assert checks.leaks(base, Descriptors((), 4, 10), threads=12)
    assert checks.leaks(base, Descriptors((), 3, 30), threads=12)
    assert checks.leaks(base, base, threads=400)


def test_the_descriptors_of_a_process_are_told_apart(folder: Path) -> None:
    plant(folder, BLOB)
    [path] = disk.blobs(folder).values()
    before = disk.descriptors(os.getpid(), folder)
    with path.open("rb"):
        assert disk.descriptors(os.getpid(), folder).content == (str(path),)
    assert not before.content
    assert disk.threads(os.getpid()) >= 1


def test_an_unforeseen_error_in_the_log_is_found() -> None:
    assert not checks.log("INFO all is well\nERROR cannot store it\n")
    assert checks.log("ERROR unexpected failure of a fetch\nTraceback …\n")
    assert checks.log("ERROR unexpected failure of a request: '/v2/'\n")


# A whole round


def test_a_failure_is_reported_with_its_seed_and_how_to_replay_it() -> None:
    counted = Counted(plan_round(7, 3), wrong=["a client hung: blob"])
    text = report.failure(7, counted)
    assert "seed 7, round 3" in text
    assert "a client hung: blob" in text
    assert "make torture SEED=7 ROUNDS=4" in text


@pytest.mark.parametrize("number", [0, 3], ids=["mended", "storm"])
async def test_a_short_round_against_the_real_daemon_passes(tmp_path: Path, number: int) -> None:
    async with torture(7, tmp_path) as run:
        counted = await run.play(plan_round(7, number, crowd=6, lasts=1.0))
    assert counted.wrong == []
    assert counted.ends.total() > 6
    assert counted.samples > 5
