"""Modules of later work: no start loads them, and their load holds no loop."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mirror.app import build_console
from mirror.app.build_console import ConsoleBuilder
from tests.attacks.steps import MOST
from tests.support.mirror import Mirror
from tests.support.reloading import Changing, reload

HERE = Path(__file__).parents[2]
SCRIPT = """
import asyncio, sys
from pathlib import Path
import aiohttp
from mirror.app.daemon import running
from mirror.settings import load
from tests.attacks.steps import steps

LINE = b'{"kind":"budget"}' + bytes([10])

async def look(folder):
    upstreams = {"docker.io": {"url": "http://127.0.0.1:9"}}
    settings = load({"listen": "127.0.0.1:0", "data_dir": folder, "upstreams": upstreams})
    loaded = set(sys.modules)
    async with running(settings) as daemon, aiohttp.ClientSession() as session:
        print(*sorted(set(sys.modules)))
        connector = aiohttp.UnixConnector(str(settings.data_dir / "control.sock"))
        async with aiohttp.ClientSession(connector=connector) as orders:
            with steps() as longest:
                async with orders.post("http://mirror/orders", data=LINE) as told:
                    assert b'"budgets"' in await told.read()
            print(longest.seconds, longest.what)
        with steps() as longest:
            async with session.get(daemon.url) as response:
                assert response.status == 200, await response.text()
        print(longest.seconds, longest.what)

asyncio.run(look(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Lines of a mirror that was begun, got an order and was looked at.

    Its modules before, and the longest step of the loop by the order, and by the look.
    """
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path_factory.mktemp("data")],
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def test_a_start_loads_nothing_that_is_listed_as_deferred(looked: list[str]) -> None:
    project = tomllib.loads((HERE / "pyproject.toml").read_text())
    tidy = project["tool"]["ruff"]["lint"]["flake8-tidy-imports"]
    deferred = tidy["banned-module-level-imports"]
    assert "mirror.app.build_console" in deferred
    loaded = {*looked[0].split()}
    assert not loaded & {*deferred, "jinja2", "yaml", "mirror.console.console"}
    assert not loaded & {"mirror.admin.messages", "mirror.admin.operations"}


@pytest.mark.parametrize("line", [1, 2], ids=["order", "page"])
def test_the_first_order_and_the_first_look_hold_no_loop(looked: list[str], line: int) -> None:
    seconds, _, what = looked[line].partition(" ")
    assert float(seconds) < MOST, what


async def test_metrics_of_the_page_are_there_before_the_first_look(mirror: Mirror) -> None:
    assert "mirror_event_streams 0.0" in (await mirror.ask("/metrics")).text


async def test_the_first_look_after_a_reload_is_by_the_new_settings(changing: Changing) -> None:
    async with changing.running() as mirror:
        changing.keys = {"admin_hosts": "mirror.example"}
        await reload(mirror)
        assert (await mirror.ask("/", Host="mirror.example")).status == 200


async def test_a_page_that_cannot_be_loaded_is_loaded_by_the_next_look(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> ConsoleBuilder:
        raise ImportError("no module of this name")

    with monkeypatch.context() as patch:
        patch.setattr(build_console, "ConsoleBuilder", broken)
        assert (await mirror.ask("/")).status == 500
    assert "cannot be loaded" in caplog.text
    assert (await mirror.ask("/")).status == 200
