"""The pull ledger: every counted request, and upstream's reports of its limit."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from mirror.budget.account import BudgetPolicy
from mirror.budget.budget import Budget
from mirror.budget.demand import Demand
from mirror.budget.ledger import Ledger
from mirror.budget.pull_request import PullRequest
from mirror.budget.report import report
from mirror.cli.commands.budget import lines
from mirror.oci.names import HUB_WINDOW, Repository, Tag
from mirror.storage.metadata.protocol import MetadataStore
from mirror.storage.metadata.rows import AccountKey
from mirror.upstream.telemetry import (
    PullLimit,
    UpstreamResponse,
    read_limit,
    read_retry_after,
)
from tests.standin import Fault, Hub, Image, make_image
from tests.support.folder import DataFolder
from tests.support.mirror import Mirror, Run
from tests.support.waiting import until

REPOSITORY = "library/nginx"
HUB = AccountKey("docker.io", "")
_STATE = ("limit", "remaining", "used", "others", "window_seconds")


def entries(data: Path) -> list[tuple[object, ...]]:
    """The rows of the ledger, read through another connection."""
    return DataFolder(data).rows(
        "SELECT upstream, account, repository, reference, digest, client FROM pull ORDER BY id"
    )


async def test_every_counted_request_is_entered_with_its_client(
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
    await until(lambda: bool(entries(tmp_path / "data")), within=0.5)


async def test_a_pull_that_brought_nothing_good_is_counted_all_the_same(
    hub: Hub, run: Run, image: Image, tmp_path: Path
) -> None:
    wrong = Fault(kind="manifest", method="GET", body=lambda body: body + b" ", times=2)
    hub.faults.add(wrong)
    async with run() as mirror:
        assert (await mirror.manifest(REPOSITORY, image.digest)).status == 502
    assert len(entries(tmp_path / "data")) == 2


async def test_each_attempt_is_entered_with_the_client_and_its_tag(
    hub: Hub, run: Run, image: Image, tmp_path: Path
) -> None:
    hub.faults.add(Fault(kind="manifest", method="GET", body=lambda body: body + b" "))
    async with run() as mirror:
        assert (await mirror.manifest(REPOSITORY, "latest")).status == 200
    digests = [row[4] for row in entries(tmp_path / "data")]
    assert digests == [image.digest, ""]  # by the digest of the HEAD, and then by the tag
    assert {(row[3], row[5]) for row in entries(tmp_path / "data")} == {("latest", "127.0.0.1")}


async def test_upstreams_report_of_its_limit_survives_a_restart(
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
    assert _account(metrics)
    assert "robot" not in metrics  # readers of the metrics have not logged in


async def test_an_accounts_label_confirms_no_guess_and_outlives_a_restart(
    hub: Hub, run: Run, image: Image, tmp_path: Path
) -> None:
    hub.terms.users = {"robot": "word"}
    hub.terms.account_limit = 200
    account = {"url": hub.url, "private": "everyone", "username": "robot", "password": "word"}
    labels = []
    for folder in ("one", "one", "other"):
        given = {"upstreams": {"docker.io": account}, "data_dir": tmp_path / folder}
        async with run(**given) as mirror:
            await mirror.manifest(REPOSITORY, "latest")
            labels.append(_account((await mirror.ask("/metrics")).body.decode()))
    one, again, other = labels
    assert one == again != other
    for guess in ("docker.io robot", "account docker.io robot", "robot"):
        assert one not in hashlib.sha256(guess.encode()).hexdigest()


def _account(metrics: str) -> str:
    """Return the label of the only account with a limit of 200."""
    [found] = re.findall(r'mirror_pull_limit{account="(\w*)",upstream="docker.io"} 200.0', metrics)
    return str(found)


async def test_pulls_leave_the_window_when_their_time_has_come(index: MetadataStore) -> None:
    clock = [1_000_000.0]
    budget = _budget_of(index, clock)
    for left in (99, 98, 97):
        budget.observe(_counted(limit=PullLimit(100, left, 600, "me")))
        clock[0] += 200
    assert _used(budget) == 2  # the first pull is as old as the window is long
    await index.flush()
    again = _budget_of(index, clock)
    await again.load()
    assert _used(again) == 2
    clock[0] += 600
    assert _used(again) == 0


async def test_old_pulls_leave_the_ledger(index: MetadataStore) -> None:
    clock = [1_000_000.0]
    budget = _budget_of(index, clock)
    budget.observe(_counted())
    clock[0] += 2 * HUB_WINDOW + 1
    budget.observe(_counted())
    await index.flush()
    await _budget_of(index, clock).load()
    assert [pull.at for pull in await index.pulls(0)] == [clock[0]]


@pytest.mark.parametrize("told", [False, True])
async def test_a_long_window_is_as_long_after_a_restart(index: MetadataStore, told: bool) -> None:
    """The window is configured, or reported by upstream, however long the ledger is kept."""
    wall = [2_000_000_000.0]
    terms = BudgetPolicy() if told else BudgetPolicy(pull_limit=10, pull_window=86400)
    budget = _budget_of(index, wall, terms=terms)
    for left in range(9, 4, -1):
        budget.observe(_counted(PullLimit(10, left, 86400, "me") if told else None))
    await index.flush()
    for passed, used in ((13 * 3600, 5), (12 * 3600, 0)):
        wall[0] += passed
        again = _budget_of(index, wall, terms=terms)
        await again.load()
        assert (_used(again), _left(again)) == (used, 10 - used)


async def test_a_pull_is_taken_from_the_last_report_even_if_older_ones_are_gone(
    index: MetadataStore,
) -> None:
    wall = [2_000_000_000.0]
    budget = _budget_of(index, wall)
    for left in (99, 98):
        budget.observe(_counted(PullLimit(100, left, None, "me")))
    wall[0] += 2 * HUB_WINDOW + 1
    budget.observe(_head(PullLimit(100, 40, None, "me")))
    await index.flush()
    await budget.prune()
    for left in (39, 38):
        budget = _budget_of(index, wall)
        await budget.load()
        assert len(await index.pulls(0)) == 39 - left
        budget.observe(replace(_counted(), garbled=True))
        assert _left(budget) == left
        await index.flush()


async def test_requests_are_told_for_the_whole_of_a_long_window(
    index: MetadataStore,
) -> None:
    wall = [2_000_000_000.0]
    ledger = Ledger(index, ledger_keep=0, clock=lambda: wall[0])
    for demand in (Demand(ledger), Demand(ledger)):  # before a restart and after it
        await demand.load(7 * 86400)
        demand.asked["docker.io"] += 3
        demand.tick()
        await index.flush()
        wall[0] += 3 * 86400
        demand.tick()
    assert demand.asked_for("docker.io", 7 * 86400) == 6


# The wall clock


class _Clocks:
    """The wall clock, which may be set, and the timer, which may not."""

    def __init__(self) -> None:
        self.wall = 2_000_000_000.0
        self.timer = 1000.0

    def pass_on(self, seconds: float) -> None:
        """Let time pass."""
        self.wall += seconds
        self.timer += seconds

    def budget(self, index: MetadataStore, terms: BudgetPolicy | None = None) -> Budget:
        """A budget by these clocks, as in a new process."""
        ledger = Ledger(index, ledger_keep=0, clock=lambda: self.wall)
        return Budget(ledger, {"docker.io": terms or BudgetPolicy()}, timer=lambda: self.timer)


async def test_setting_the_clock_moves_nothing_while_the_mirror_runs(index: MetadataStore) -> None:
    clocks = _Clocks()
    budget = clocks.budget(index)
    budget.observe(_counted(PullLimit(100, 99, None, "me")))
    for step in (-86400 * 30, 86400 * 365, -7200):
        clocks.wall += step
        budget.tick()
        assert (_used(budget), _left(budget)) == (1, 99)
    clocks.pass_on(HUB_WINDOW)
    assert (_used(budget), _left(budget)) == (0, 100)


@pytest.mark.parametrize("step", [-7200, 7200, -86400 * 30, 86400 * 365])
@pytest.mark.parametrize("seen", [False, True])
async def test_a_clock_that_was_set_has_nothing_counted_twice_nor_forgotten(
    index: MetadataStore, step: float, seen: bool
) -> None:
    """The clock is set between the pulls and upstream's report; before a restart, or after it."""
    clocks = _Clocks()
    budget = clocks.budget(index)
    await budget.load()
    for left in range(99, 39, -1):
        budget.observe(_counted(PullLimit(100, left, None, "me")))
    if not seen:
        await index.flush()
        budget = clocks.budget(index)
        clocks.wall += step
        await budget.load()
    else:
        clocks.wall += step
    clocks.pass_on(10)
    budget.observe(_head(PullLimit(100, 40, None, "me")))
    await index.flush()
    clocks.pass_on(10)
    again = clocks.budget(index)
    await again.load()
    assert _left(again) == 40
    if seen or step < 0:
        assert _used(again) == 60
        clocks.pass_on(HUB_WINDOW)
        assert _used(again) == 0


async def test_pulls_of_a_wrong_clock_are_moved_with_it(index: MetadataStore) -> None:
    """A machine without a battery for its clock starts in 1970, until its time is synchronized."""
    clocks = _Clocks()
    clocks.budget(index).observe(_counted())
    await index.flush()
    clocks.pass_on(HUB_WINDOW - 1000)
    true, clocks.wall = clocks.wall, 100.0
    budget = clocks.budget(index, BudgetPolicy(pull_limit=10))
    await budget.load()
    for _ in range(9):
        budget.observe(_counted())
    clocks.wall = true
    clocks.pass_on(60)
    budget.tick()
    await index.flush()
    again = clocks.budget(index, BudgetPolicy(pull_limit=10))
    await again.load()
    assert _left(again) == 0
    returns = list(_returns(again))
    assert returns == pytest.approx([940, *[HUB_WINDOW - 60] * 9], abs=2)


@pytest.mark.parametrize("wrong", [-7200.0, -86400.0 * 365, 7200.0, 86400.0 * 365])
async def test_one_entry_by_a_wrong_clock_leaves_the_others_their_ages(
    index: MetadataStore, wrong: float
) -> None:
    """The entry is at most as old as the one before it, and at least as old as the next one."""
    clocks = _Clocks()
    for step in (0.0, wrong, -wrong):
        clocks.wall += step
        budget = clocks.budget(index, BudgetPolicy(pull_limit=10))
        await budget.load()
        budget.observe(_counted())
        await index.flush()
        clocks.pass_on(600)
    again = clocks.budget(index, BudgetPolicy(pull_limit=10))
    await again.load()
    returns = [HUB_WINDOW - seconds for seconds in _returns(again)]
    assert returns == pytest.approx([1800, 1800 if wrong < 0 else 600, 600], abs=3)


async def test_a_clock_far_ahead_does_not_have_the_ledger_dropped(index: MetadataStore) -> None:
    clocks = _Clocks()
    budget = clocks.budget(index, BudgetPolicy(pull_limit=10))
    budget.observe(_counted())
    await index.flush()
    clocks.wall += 86400 * 3650
    await clocks.budget(index, BudgetPolicy(pull_limit=10)).load()
    clocks.wall -= 86400 * 3650
    again = clocks.budget(index, BudgetPolicy(pull_limit=10))
    await again.load()
    assert _left(again) == 9


async def test_a_refusal_lasts_no_longer_however_the_clock_is_set(index: MetadataStore) -> None:
    clocks = _Clocks()
    clocks.budget(index).observe(_refused(60))
    await index.flush()
    clocks.wall -= 86400 * 30
    again = clocks.budget(index)
    await again.load()
    assert 0 < again.present("docker.io").shut_for(clocks.timer) <= 60
    clocks.wall += 86400 * 30 + 61
    again = clocks.budget(index)
    await again.load()
    assert again.present("docker.io").shut_for(clocks.timer) == 0


# Rows that are of no use any more


async def test_a_report_to_a_former_account_is_forgotten(index: MetadataStore) -> None:
    wall = [2_000_000_000.0]
    said = PullLimit(100, 40, None, "me")
    _budget_of(index, wall).observe(_head(said))
    await index.flush()
    wall[0] += 3600
    budget = _budget_of(index, wall, terms=BudgetPolicy(user="robot"))
    await budget.load()
    assert [key for key, _ in budget.accounts()] == [("docker.io", "robot"), ("docker.io", "")]
    wall[0] += HUB_WINDOW
    assert [key for key, _ in budget.accounts()] == [("docker.io", "robot")]
    wall[0] += 2 * HUB_WINDOW
    budget.observe(_head(said, account="robot"))
    await index.flush()
    await budget.prune()
    assert [row.account.name for row in await index.limits()] == ["robot"]


async def test_saved_pulls_are_told_for_the_present_account_alone(index: MetadataStore) -> None:
    wall = [2_000_000_000.0]
    budget = _budget_of(index, wall)
    budget.observe(_counted(PullLimit(100, 40, None, "me")))
    await index.flush()
    budget = _budget_of(index, wall, terms=BudgetPolicy(user="robot"))
    await budget.load()
    demand = Demand(budget.ledger)
    await demand.load(budget.longest)
    demand.asked["docker.io"] += 3
    demand.tick()
    told = await report(budget, demand)
    assert [(each.account, each.asked) for each in told.accounts] == [("robot", 3), ("", None)]
    assert sum(line.startswith("  saved") for line in lines(told, wall[0])) == 1


async def test_a_word_that_is_older_than_the_window_is_not_called_upstreams(
    index: MetadataStore,
) -> None:
    wall = [2_000_000_000.0]
    budget = _budget_of(index, wall)
    budget.observe(_counted(PullLimit(100, 40, None, "me")))
    young, old = "by upstream's figure 2 h ago", "last figure is 8 h old"
    for passed, said in ((7200, young), (HUB_WINDOW, old)):
        wall[0] += passed
        assert any(said in line for line in lines(await report(budget, Demand(budget.ledger)), 0))


async def test_spenders_are_told_for_each_account_alone(index: MetadataStore) -> None:
    wall = [2_000_000_000.0]
    budget = _budget_of(index, wall)
    request = PullRequest(Repository("docker.io", REPOSITORY), Tag("latest"), "10.0.0.9")
    budget.observe(_counted(), request)
    budget.observe(replace(_counted(), account="robot"), request)
    budget.observe(replace(_counted(), upstream="ghcr.io"), request)
    wall[0] += 1
    for key in (HUB, AccountKey("docker.io", "robot"), AccountKey("ghcr.io", "")):
        spent = await budget.ledger.spenders(key, 600, 5)
        assert [(row.name, row.pulls) for row in spent["client"]] == [("10.0.0.9", 1)]


def test_the_forms_of_the_limit_headers_are_read() -> None:
    said = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "20;w=21600"}
    source = {"docker-ratelimit-source": "10.0.0.1"}
    read = partial(read_limit, windowless=True)
    assert read(said | source) == PullLimit(100, 20, 21600, "10.0.0.1")
    assert read({"ratelimit-limit": "5", "ratelimit-remaining": "3"}) == PullLimit(5, 3, None, "")
    for bad in ("", "many", "-1", "1;w=x", "9" * 40):
        assert read({"ratelimit-limit": bad, "ratelimit-remaining": "3"}) is None
    assert read({"ratelimit-limit": "5"}) is None


@pytest.mark.parametrize("window", ["", ";w=60", ";w=599"])
def test_a_limit_of_requests_is_no_limit_of_pulls(window: str) -> None:
    said = {"ratelimit-limit": f"600{window}", "ratelimit-remaining": f"0{window}"}
    assert read_limit(said, windowless=False) is None
    lasting = {"ratelimit-limit": "600;w=3600", "ratelimit-remaining": "0"}
    assert read_limit(lasting, windowless=False) == PullLimit(600, 0, 3600, "")


def test_retry_after_is_believed_within_reason() -> None:
    assert read_retry_after({"Retry-After": "60"}) == 60
    assert read_retry_after({"Retry-After": "99999999"}) == 86_400
    for bad in ("", "-1", "soon", "²", "9" * 30, "Mon, 99 Nov 2026 18:00:00 GMT", "Mon," * 9999):
        assert read_retry_after({"Retry-After": bad}) is None


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("Mon, 23 Nov 2026 18:00:07 GMT", 7),
        ("Monday, 23-Nov-26 18:00:07 GMT", 7),
        ("Mon Nov 23 18:00:07 2026", 7),
        ("Mon, 23 Nov 2026 17:00:00 GMT", 0),
        ("Mon, 23 Nov 2099 17:00:00 GMT", 86_400),
    ],
)
def test_retry_after_may_be_a_date_by_the_senders_clock(date: str, seconds: int) -> None:
    headers = {"Retry-After": date, "Date": "Mon, 23 Nov 2026 18:00:00 GMT"}
    assert read_retry_after(headers) == seconds


def test_retry_after_may_be_a_date_by_our_own_clock() -> None:
    assert read_retry_after({"Retry-After": "Mon, 23 Nov 2020 18:00:00 GMT"}) == 0


def _counted(limit: PullLimit | None = None) -> UpstreamResponse:
    return UpstreamResponse(
        "docker.io", "", "manifest", "GET", 200, 0.1, REPOSITORY, "sha256:0", limit=limit
    )


def _head(limit: PullLimit, account: str = "") -> UpstreamResponse:
    return UpstreamResponse(
        "docker.io", account, "manifest", "HEAD", 200, 0.1, REPOSITORY, "latest", limit=limit
    )


def _refused(retry_after: int | None) -> UpstreamResponse:
    answer = replace(_counted(), status=429, spent=True)
    return replace(answer, retry_after=retry_after)


def _budget_of(
    index: MetadataStore, clock: list[float], terms: BudgetPolicy | None = None
) -> Budget:
    ledger = Ledger(index, ledger_keep=0, clock=lambda: clock[0])
    return Budget(ledger, {"docker.io": terms or BudgetPolicy()}, timer=lambda: clock[0])


def _left(budget: Budget) -> int | None:
    return budget.present("docker.io").window.left(budget.now())


def _returns(budget: Budget) -> Iterator[float]:
    return budget.present("docker.io").window.returns(budget.now())


def _used(budget: Budget) -> int:
    return budget.present("docker.io").window.used(budget.now())


async def _budget(mirror: Mirror) -> dict[str, float]:
    lines = (await mirror.ask("/metrics")).body.decode().splitlines()
    found = [line.rpartition(" ") for line in lines if line.startswith("mirror_pull_")]
    values = {name.partition("{")[0]: float(value) for name, _, value in found}
    return {f"mirror_pull_{name}": values[f"mirror_pull_{name}"] for name in _STATE}
