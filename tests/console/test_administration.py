"""The API of administration: reload, configuration and doctor, as the commands have them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import encode_basic_auth
from yarl import URL

from tests.standin import Fault, Hub
from tests.support.command import environment, launched
from tests.support.mirror import Mirror, Run
from tests.support.reloading import Changing

TOKEN = "a-token-of-more-than-16"
OPERATORS = {"clients": {"ci": {"token": TOKEN}}, "operators": "ci"}
CI = encode_basic_auth("ci", TOKEN)
GUARDED = ("/api/v1/config", "/api/v1/doctor")


@pytest.fixture
def changing(tmp_path: Path, hub: Hub) -> Changing:
    """A mirror with an operator, and settings that can change."""
    changing = Changing(tmp_path / "data", hub)
    changing.keys = dict(OPERATORS)
    return changing


async def asked(mirror: Mirror, path: str, method: str = "GET") -> Any:  # noqa: ANN401 - any JSON
    """Ask as the operator; returns the document."""
    got = await mirror.ask(f"/api/v1{path}", method, Authorization=CI)
    assert got.status == 200, got.body
    return json.loads(got.text)


def values(configuration: dict[str, Any]) -> dict[str, Any]:
    """Return the shown values by key."""
    return {each["key"]: each["value"] for each in configuration["keys"]}


async def test_a_reload_tells_what_changed_and_what_needs_a_restart(changing: Changing) -> None:
    async with changing.running() as mirror:
        nothing = await asked(mirror, "/reload", "POST")
        assert nothing == {"changed": [], "restart": [], "kind": "reloaded"}
        changing.keys |= {"max_fetches": 7, "memory_cache": "1MiB"}
        told = await asked(mirror, "/reload", "POST")
        assert (told["changed"], told["restart"]) == (["max_fetches"], ["memory_cache"])
        shown = await asked(mirror, "/config")
        assert values(shown)["max_fetches"] == 7
        assert values(shown)["memory_cache"] == "16MiB"  # is in force, until a restart
        places = {each["key"]: each["from"] for each in shown["keys"]}
        assert (places["max_fetches"], places["memory_cache"]) == ("flag", "default")


async def test_a_faulty_configuration_is_named_and_changes_nothing(changing: Changing) -> None:
    async with changing.running() as mirror:
        before = await asked(mirror, "/config")
        changing.keys["max_fetches"] = "many"
        got = await mirror.ask("/api/v1/reload", "POST", Authorization=CI)
        assert got.status == 409
        assert "max_fetches" in json.loads(got.body)["detail"]
        assert await asked(mirror, "/config") == before


async def test_a_reload_is_for_operators_and_in_the_log(
    changing: Changing, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with changing.running() as mirror:
        assert (await mirror.ask("/api/v1/reload", "POST")).status == 401
        foreign = await mirror.ask(
            "/api/v1/reload", "POST", Authorization=CI, Origin="http://attacker.example"
        )
        assert foreign.status == 403
        assert "order of" not in caplog.text
        await asked(mirror, "/reload", "POST")
    assert "order of ci at 127.0.0.1: reload" in caplog.text
    assert '"kind":"reloaded"}: reload' in caplog.text


async def test_config_and_doctor_are_what_the_commands_print(hub: Hub, tmp_path: Path) -> None:
    file = tmp_path / "mirror.toml"
    file.write_text(
        f'listen = "127.0.0.1:0"\ndata_dir = "{tmp_path}/data"\nmax_size = "1GB"\n'
        f'tag_ttl = "5m"\noperators = ["ci"]\n[clients.ci]\ntoken = "{TOKEN}"\n'
        f'[upstreams."docker.io"]\nurl = "{hub.url}"\nmax_rate = "10MiB"\n'
    )
    env = environment()
    async with launched("serve", "--config", file, env=env) as mirror, aiohttp.ClientSession() as s:
        url = URL(await mirror.address())
        found = {
            path: await (await s.get(url / "api/v1" / path, headers={"Authorization": CI})).json()
            for path in ("config", "doctor")
        }
        printed = {}
        for command in found:
            async with launched(command, "--config", file, "--json", env=env) as ran:
                printed[command] = json.loads((await ran.ended(30)).out)
    assert found["config"]["keys"] == printed["config"]
    assert TOKEN not in json.dumps(found)
    states = [
        [(each["check"], each["state"]) for each in findings]
        for findings in (found["doctor"]["findings"], printed["doctor"])
    ]
    assert states[0] == states[1]
    assert ("docker.io", "ok") in states[0]


async def test_examinations_at_the_same_time_are_one(hub: Hub, run: Run) -> None:
    go = asyncio.Event()
    async with run(**OPERATORS, max_size="1GB") as mirror:
        await asked(mirror, "/doctor")
        each = hub.count(kind="ping")
        hub.faults.add(Fault(kind="ping", hang=True, until=go, times=None))
        asking = [asyncio.create_task(asked(mirror, "/doctor")) for _ in range(5)]
        await hub.seen(lambda seen: seen.kind == "ping", each + 1)
        assert (await mirror.ask("/api/v1/status")).status == 200
        go.set()
        answers = await asyncio.gather(*asking)
        assert all(answer == answers[0] for answer in answers)
        assert hub.count(kind="ping") == 2 * each


async def test_a_stop_cuts_an_examination_after_its_grace(hub: Hub, run: Run) -> None:
    hub.faults.add(Fault(kind="ping", hang=True, times=None))
    async with asyncio.timeout(10):
        async with run(**OPERATORS) as mirror:
            reader, writer = await asyncio.open_connection(*mirror.daemon.address)
            head = f"GET /api/v1/doctor HTTP/1.1\r\nHost: localhost\r\nAuthorization: {CI}\r\n\r\n"
            writer.write(head.encode())
            await hub.seen(lambda seen: seen.kind == "ping")
        assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize("path", GUARDED)
async def test_without_operators_the_command_is_named(mirror: Mirror, path: str) -> None:
    got = await mirror.ask(path)
    assert got.status == 403
    command = path.rpartition("/")[2]
    assert f"use the command: mirror {command}" in json.loads(got.body)["detail"]


@pytest.mark.parametrize("path", GUARDED)
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_no_link_of_another_site_leads_to_it(run: Run, path: str, site: str) -> None:
    visit = {"Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    async with run(**OPERATORS) as mirror:
        got = await mirror.ask(path, Authorization=CI, Sec_Fetch_Site=site, **visit)
        assert got.status == 403
        for own in ("none", "same-origin"):
            got = await mirror.ask(path, Authorization=CI, Sec_Fetch_Site=own, **visit)
            assert got.status == 200
