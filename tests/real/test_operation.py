"""The operators' programs accept the mirror: Prometheus the metrics, systemd the unit."""

import asyncio
import json
import re
from pathlib import Path

import pytest

from tests.standin import Hub, Image

from .engines import Engine
from .mirrors import COMMAND, Mirror
from .processes import environment, needs, run

PROJECT = Path(__file__).parents[2]
EXAMPLE, DEPLOY = PROJECT / "daemon.json.example", PROJECT / "deploy"
APP = "library/app"


def test_the_example_for_docker_is_all_that_a_user_has_to_paste() -> None:
    assert json.loads(EXAMPLE.read_text()) == {"registry-mirrors": ["http://127.0.0.1:5000"]}


@pytest.mark.parametrize("engine", ["skopeo"], indirect=True)
async def test_promtool_is_content_with_the_metrics(
    engine: Engine, hub: Hub, mirror: Mirror, image: Image, tmp_path: Path
) -> None:
    needs("promtool")
    hub.add(image, APP, "1")
    await engine.pull(APP, "1")
    metrics = await asyncio.to_thread(mirror.metrics)
    await run("promtool", "check", "metrics", env=environment(tmp_path), data=metrics.encode())


async def test_promtool_is_content_with_the_configuration(tmp_path: Path) -> None:
    needs("promtool")
    files = list(DEPLOY.glob("prometheus*.yml"))
    assert files
    for file in files:
        await run("promtool", "check", "config", file, env=environment(tmp_path))


async def test_promtool_is_content_with_the_alerts(tmp_path: Path) -> None:
    needs("promtool")
    tests = list(DEPLOY.glob("*.test.yml"))
    assert tests
    for file in tests:
        await run("promtool", "test", "rules", file, env=environment(tmp_path))


async def test_systemd_is_content_with_the_unit(tmp_path: Path) -> None:
    needs("systemd-analyze")
    units = list(DEPLOY.glob("*.service"))
    assert units
    for unit in units:
        here = tmp_path / unit.name
        here.write_text(re.sub(r"(?m)^(Exec\w+=-?)\S+", rf"\1{COMMAND}", unit.read_text()))
        options = ["--recursive-errors=no", "--man=no"]
        await run("systemd-analyze", "verify", *options, here, env=environment(tmp_path))
