"""The status shows each schedule: its next time, and the result of its last run."""

from __future__ import annotations

import json
from pathlib import Path

from mirror.util.cron import parse_cron
from tests.app.test_schedules import WHEN, go_to
from tests.standin import Image
from tests.support.clock import Clock
from tests.support.mirror import Mirror, Run
from tests.support.reloading import Changing, reload
from tests.support.waiting import until

NGINX = {"when": WHEN, "images": ["nginx"]}


async def schedules(mirror: Mirror) -> list[dict[str, object]]:
    """The reports on schedules in the API."""
    status = json.loads((await mirror.ask("/api/v1/status")).text)
    found: list[dict[str, object]] = status["schedules"]
    return found


async def ended(mirror: Mirror) -> dict[str, object]:
    """The report on the only schedule, after the end of its run."""

    async def has_ended() -> bool:
        [report] = await schedules(mirror)
        return report["ended"] is not None

    await until(has_ended)
    [report] = await schedules(mirror)
    return report


async def shows(mirror: Mirror, text: str) -> None:
    """Wait until the page has a text: a page is rendered once a second."""

    async def is_shown() -> bool:
        return text in (await mirror.ask("/")).text

    await until(is_shown)


async def test_a_schedule_has_its_next_time_before_and_its_result_after_a_run(
    run: Run, image: Image
) -> None:
    clock = Clock()
    async with run(clock=clock, schedules=[NGINX]) as mirror:
        [before] = await schedules(mirror)
        assert before["name"] == f"\"{WHEN}\" of 'docker.io/library/nginx:latest'"
        assert before["next"] == parse_cron(WHEN).following(clock.wall())
        assert (before["began"], before["ended"]) == (None, None)
        await shows(mirror, "none since the start")
        go_to(mirror, clock)
        after = await ended(mirror)
        assert (after["images"], after["stored"], after["failure"]) == (1, 1, None)
        assert after["began"] == clock.wall()
        assert after["next"] == parse_cron(WHEN).following(clock.wall())
        await shows(mirror, "1 of 1 images")


async def test_images_that_a_run_could_not_store_need_attention(run: Run, image: Image) -> None:
    clock = Clock()
    keys = [{"when": WHEN, "images": ["nginx", "nothing:1"]}]
    async with run(clock=clock, schedules=keys) as mirror:
        go_to(mirror, clock)
        after = await ended(mirror)
        assert (after["images"], after["stored"]) == (2, 1)
        await shows(mirror, "1 of 2 images")
        assert "All is well" not in (await mirror.ask("/")).text


async def test_a_run_that_cannot_begin_has_its_reason(run: Run, tmp_path: Path) -> None:
    clock, file = Clock(), tmp_path / "images.txt"
    async with run(clock=clock, schedules=[{"when": WHEN, "files": [str(file)]}]) as mirror:
        go_to(mirror, clock)
        after = await ended(mirror)
        assert "cannot be read" in str(after["failure"])
        await shows(mirror, str(file))


async def test_a_stranger_sees_no_name_of_a_schedule(run: Run, image: Image) -> None:
    operators = {"clients": {"ci": {"token": "a-token-of-more-than-16"}}, "operators": "ci"}
    async with run(schedules=[NGINX], **operators) as mirror:
        assert "nginx" not in str(await schedules(mirror))
        assert "nginx" not in (await mirror.ask("/")).text


async def test_a_reload_keeps_the_last_run_of_schedules_that_stay(
    changing: Changing, image: Image
) -> None:
    clock = Clock()
    changing.keys["schedules"] = [NGINX]
    async with changing.running(clock) as mirror:
        go_to(mirror, clock)
        after = await ended(mirror)
        changing.keys["schedules"] = [NGINX | {"leave": 1}, NGINX]
        await reload(mirror)
        fresh, kept = await schedules(mirror)
        assert kept == after
        assert fresh["began"] is None
