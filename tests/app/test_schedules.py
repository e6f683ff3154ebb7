"""Schedules warm their images at their times, one after the other, and are reloaded."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import pytest

from mirror.app.schedule_faults import schedule_faults
from mirror.settings import ConfigurationError, load
from mirror.util.cron import parse_cron
from tests.standin import Fault, Hub, Image, make_image
from tests.support.clock import Clock
from tests.support.mirror import Mirror, Run
from tests.support.reloading import Changing, reload
from tests.support.waiting import until

WHEN = "0 5 * * *"


class SetClock(Clock):
    """A clock whose wall clock may be wrong, by seconds."""

    wrong = 0.0

    def wall(self) -> float:
        """Return the wrong time since the epoch."""
        return super().wall() + self.wrong


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What schedules log."""
    caplog.set_level(logging.INFO, "mirror.app")
    return caplog


def go_to(mirror: Mirror, clock: Clock, when: str = WHEN, late: float = 1) -> None:
    """Set the clock to a second after a time of a schedule."""
    at = parse_cron(when).following(clock.wall())
    assert at is not None
    clock.now += at - clock.wall() + late
    mirror.daemon.scheduler.wake()


async def test_images_are_warmed_at_their_time_and_no_earlier(
    hub: Hub, run: Run, image: Image, log: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    async with run(clock=clock, schedules=[{"when": WHEN, "images": ["nginx"]}]) as mirror:
        mirror.daemon.scheduler.wake()
        await until(lambda: True)
        assert not hub.requests
        go_to(mirror, clock)
        await until(lambda: "1 of 1 images are stored" in log.text)
        assert mirror.stored.has(image.layers[0].digest)
        assert "begins, 1 images" in log.text
        go_to(mirror, clock)
        await until(lambda: log.text.count("1 of 1 images are stored") == 2)
    assert hub.pulls == 1


async def test_a_file_is_read_at_each_time(
    hub: Hub, run: Run, image: Image, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    clock, file = Clock(), tmp_path / "images.txt"
    async with run(clock=clock, schedules=[{"when": WHEN, "files": [str(file)]}]) as mirror:
        go_to(mirror, clock)
        await until(lambda: "cannot be read" in log.text)
        file.write_text("nginx\nnot one\n")
        go_to(mirror, clock)
        await until(lambda: "1 of 1 images are stored" in log.text)
        assert f"{file}:2: 'not one' is no image name" in log.text
        assert mirror.stored.has(image.digest)


async def test_the_log_names_what_failed_and_metrics_count_it(
    hub: Hub, run: Run, image: Image, log: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    schedules = [{"when": WHEN, "images": ["nginx", "nothing:1"]}]
    async with run(clock=clock, schedules=schedules) as mirror:
        go_to(mirror, clock)
        await until(lambda: "docker.io/library/nothing:1 failed: " in log.text)
        text = (await mirror.ask("/metrics")).body.decode()
    assert 'mirror_warm_images_total{result="stored"} 1.0' in text
    assert 'mirror_warm_images_total{result="failed"} 1.0' in text
    assert "mirror_warm_last_failed_images 1.0" in text
    assert "mirror_warm_pulls_total 1.0" in text


async def test_a_time_that_passed_long_ago_is_not_made_up_for(
    hub: Hub, run: Run, image: Image, log: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    async with run(clock=clock, schedules=[{"when": WHEN, "images": ["nginx"]}]) as mirror:
        go_to(mirror, clock, late=3600)
        await until(lambda: "a time was missed" in log.text)
    assert not hub.requests


async def test_times_come_after_a_clock_that_was_far_ahead(
    hub: Hub, run: Run, image: Image, log: pytest.LogCaptureFixture
) -> None:
    clock = SetClock()
    async with run(clock=clock, schedules=[{"when": WHEN, "images": ["nginx"]}]) as mirror:
        clock.wrong = 12 * 366 * 86400
        mirror.daemon.scheduler.wake()
        await until(lambda: "a time was missed" in log.text)
        clock.wrong = 0
        mirror.daemon.scheduler.wake()
        await until(lambda: "the clock was set back" in log.text)
        go_to(mirror, clock)
        await until(lambda: "1 of 1 images are stored" in log.text)


async def test_files_that_hang_disable_no_files_of_other_schedules(
    run: Run,
    image: Image,
    tmp_path: Path,
    log: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mirror.app.scheduled_runs._PATIENCE", 0.2)
    clock, hung, good = Clock(), tmp_path / "hung", tmp_path / "good"
    os.mkfifo(hung)
    good.write_text("nginx\n")
    schedules = [{"when": WHEN, "files": [str(each)]} for each in (hung, good)]
    async with run(clock=clock, schedules=schedules) as mirror:
        try:
            go_to(mirror, clock)
            await until(lambda: "its files could not be read within 0.2 s" in log.text)
            await until(lambda: "1 of 1 images are stored" in log.text)
            go_to(mirror, clock)
            await until(lambda: "the mirror still waits" in log.text)
            await until(lambda: log.text.count("1 of 1 images are stored") == 2)
        finally:
            os.close(os.open(hung, os.O_WRONLY | os.O_NONBLOCK))


async def test_schedules_of_the_same_time_run_one_after_the_other(
    hub: Hub, run: Run, image: Image, log: pytest.LogCaptureFixture
) -> None:
    hub.add(make_image(7, [1000]), "library/other", "1")
    clock = Clock()
    schedules = [{"when": WHEN, "images": [each]} for each in ("nginx", "other:1")]
    async with run(clock=clock, schedules=schedules) as mirror:
        go_to(mirror, clock)
        await until(lambda: log.text.count("1 of 1 images are stored") == 2)
    words = [each.message.partition(": ")[2][:6] for each in log.records]
    assert words == ["begins", "ends, ", "begins", "ends, "]


async def test_a_time_that_comes_during_the_run_is_skipped_and_logged(
    hub: Hub, run: Run, image: Image, log: pytest.LogCaptureFixture
) -> None:
    go = asyncio.Event()
    clock = Clock()
    async with run(clock=clock, schedules=[{"when": WHEN, "images": ["nginx"]}]) as mirror:
        fault = hub.faults.add(Fault(kind="manifest", method="HEAD", hang=True, until=go))
        go_to(mirror, clock)
        await hub.seen(lambda seen: seen.kind == "manifest")
        hub.faults.remove(fault)
        go_to(mirror, clock)
        go.set()
        await until(lambda: "a time came while its run went on, and is skipped" in log.text)
        assert log.text.count("begins") == 1
        go_to(mirror, clock)
        await until(lambda: log.text.count("begins") == 2)


async def test_pulls_are_left_as_the_schedule_says(
    hub: Hub, run: Run, image: Image, log: pytest.LogCaptureFixture
) -> None:
    hub.terms.limit = 3
    clock = Clock()
    schedules = [{"when": WHEN, "images": ["nginx"], "leave": 3}]
    async with run(clock=clock, schedules=schedules) as mirror:
        go_to(mirror, clock)
        await until(lambda: "3 are to be left" in log.text)
        await until(lambda: "docker.io has 3 pulls left; 3 are to be left" in log.text)
    assert hub.pulls == 0


async def test_the_reserve_of_an_upstream_holds_for_schedules(
    hub: Hub, run: Run, image: Image, log: pytest.LogCaptureFixture
) -> None:
    hub.terms.limit = 3
    upstreams = {"docker.io": {"url": hub.url, "reserve": 3, "reserved_for": ["org/**"]}}
    clock = Clock()
    schedules = [{"when": WHEN, "images": ["nginx"]}]
    async with run(clock=clock, schedules=schedules, upstreams=upstreams) as mirror:
        go_to(mirror, clock)
        await until(lambda: "nginx:latest failed: " in log.text)
    assert hub.pulls == 0


async def test_a_stop_does_not_wait_for_a_schedule(hub: Hub, run: Run, image: Image) -> None:
    hub.faults.add(Fault(kind="blob", stall_after=10, times=None))
    clock = Clock()
    async with run(clock=clock, schedules=[{"when": WHEN, "images": ["nginx"]}]) as mirror:
        go_to(mirror, clock)
        await hub.seen(lambda seen: seen.kind == "blob")


async def test_a_reload_takes_up_schedules(hub: Hub, changing: Changing) -> None:
    async with changing.running() as mirror:
        changing.keys["schedules"] = [{"when": WHEN, "images": ["nginx"]}]
        assert (await reload(mirror)).changed == ("schedules",)
        assert "1 schedules" in repr(mirror.daemon.scheduler)
        changing.keys.pop("schedules")
        await reload(mirror)
        assert "0 schedules" in repr(mirror.daemon.scheduler)


def edited(mirror: Mirror, *changes: dict[str, object]) -> None:
    """Have the schedules take up others, as a reload does."""
    schedules = [{"when": WHEN, "images": ["nginx"], "jitter": "1h"} | each for each in changes]
    mirror.daemon.scheduler.change(load({"schedules": schedules}).schedules)


@pytest.mark.parametrize(
    "changes",
    [{"images": ["nginx", "none:1"]}, {"leave": 1}, {"jitter": "2h"}, {"jitter": "30m"}],
    ids=str,
)
async def test_a_schedule_edited_during_its_delay_runs_that_day(
    run: Run,
    image: Image,
    log: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, object],
) -> None:
    monkeypatch.setattr("random.uniform", lambda _, high: high)
    clock = Clock()
    schedules = [{"when": WHEN, "images": ["nginx"], "jitter": "1h"}]
    async with run(clock=clock, schedules=schedules) as mirror:
        go_to(mirror, clock, late=40 * 60)
        edited(mirror, changes)
        if changes != {"jitter": "30m"}:
            assert "begins" not in log.text
            clock.now += 20 * 60
            mirror.daemon.scheduler.wake()
        await until(lambda: "1 of " in log.text)


async def test_the_new_schedule_most_like_the_old_takes_its_place_once(
    run: Run, image: Image, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.uniform", lambda _, high: high)
    clock = Clock()
    schedules = [{"when": WHEN, "images": ["nginx"], "jitter": "1h"}]
    async with run(clock=clock, schedules=schedules) as mirror:
        go_to(mirror, clock, late=1800)
        edited(mirror, {"images": ["other"]}, {"images": ["nginx", "none:1"]})
        clock.now += 1800
        mirror.daemon.scheduler.wake()
        await until(lambda: "1 of 2 images are stored" in log.text)
        edited(mirror, {"images": ["other", "none:1"]})
        clock.now += 3600
        mirror.daemon.scheduler.wake()
        await mirror.ask("/healthz")
        clock.now += 23 * 3600
        mirror.daemon.scheduler.wake()
        await until(lambda: log.text.count("begins") == 2)


async def test_a_clock_set_back_a_little_ends_no_delay(
    run: Run, image: Image, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.uniform", lambda _, high: high)
    clock = SetClock()
    schedules = [{"when": WHEN, "images": ["nginx"], "jitter": "1h"}]
    async with run(clock=clock, schedules=schedules) as mirror:
        go_to(mirror, clock, late=1800)
        await mirror.ask("/healthz")  # the clock is looked at meanwhile
        clock.wrong = -600
        mirror.daemon.scheduler.wake()
        await until(lambda: "the clock was set back" in log.text)
        clock.now += 2400
        mirror.daemon.scheduler.wake()
        await until(lambda: "1 of 1 images are stored" in log.text)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"when": "61 * * * *", "images": ["a"]}, "schedules.0.when is '61 * * * *': minute '61'"),
        ({"images": ["a"]}, "schedules.0.when: expected a value"),
        ({"when": WHEN}, "schedules.0: expected images, or files"),
        ({"when": WHEN, "images": ["A B"]}, "schedules.0.images is ['A B']: expected images"),
        ({"when": WHEN, "images": ["ghcr.io/a"]}, "of no upstream: expected images of docker.io"),
        ({"when": WHEN, "images": ["a"], "platforms": ["/"]}, "expected a platform"),
        ({"when": WHEN, "images": ["a"], "jitter": "x"}, "schedules.0.jitter is 'x': expected a"),
        ({"when": WHEN, "images": ["a"], "leave": -1}, "schedules.0.leave is -1: expected at"),
        ({"when": WHEN, "images": ["a"], "wen": 1}, "schedules.0.wen: unknown key; did you mean"),
    ],
)
def test_a_fault_names_its_key_and_what_is_allowed(keys: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        load({"schedules": [keys]})
    assert expected in str(error.value)


def test_a_fault_in_a_file_has_its_line(file: Path) -> None:
    file.write_text(
        f'[[schedules]]\nwhen = "{WHEN}"\nimages = ["a"]\n\n[[schedules]]\nimages = ["b"]\n'
        'when = "0 25 * * *"\n'
    )
    with pytest.raises(ConfigurationError) as error:
        load(file=file)
    assert str(error.value).startswith(f"schedules.1.when (line 7 of {file}) is '0 25 * * *': hour")


def test_a_check_finds_the_faults_of_files(tmp_path: Path) -> None:
    good, empty, other = (tmp_path / name for name in ("good", "empty", "other"))
    good.write_text("nginx\n")
    empty.write_text("# nothing\n")
    other.write_text("nginx\nghcr.io/a/b\n")
    files = [str(each) for each in (good, empty, other, tmp_path / "none")]
    settings = load({"schedules": [{"when": WHEN, "files": files}]})
    assert [
        line.partition(", which ")[2].partition(":")[0] for line in schedule_faults(settings)
    ] == [
        "names no image",
        "names 'ghcr.io/a/b",
        "cannot be read",
    ]
