"""`mirror reload` and SIGHUP with the real command: its output, its log, and its limits."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from tests.standin import Fault, Hub, Image
from tests.support.command import (
    NOBODY,
    Ended,
    fetch,
    launched,
    serve_to_the_end,
    serving,
)

NAME = "library/nginx"


class Site:
    """A data folder, and the configuration file of its mirror."""

    def __init__(self, folder: Path, hub: Hub) -> None:
        self.data, self.file = folder / "data", folder / "mirror.toml"
        self.hub = f'[upstreams."docker.io"]\nurl = "{hub.url}"\n'
        self.write("")

    def write(self, top: str, rest: str = "") -> None:
        """Write the file: keys, and the tables after the hub's table."""
        self.file.write_text(f'data_dir = "{self.data}"\n{top}\n{self.hub}{rest}')

    async def reload(self, env: Mapping[str, str] | None = None) -> Ended:
        """Run `mirror reload`."""
        async with launched("reload", "--config", self.file, env=env) as command:
            return await command.ended(within=30)


@pytest.fixture
def site(tmp_path: Path, hub: Hub) -> Site:
    """A site with only the hub configured."""
    return Site(tmp_path, hub)


async def test_the_command_names_changed_keys_and_those_that_need_a_restart(site: Site) -> None:
    async with serving(site.data, "--config", site.file) as mirror:
        url = await mirror.address(within=30)
        assert await site.reload() == (0, "nothing has changed\n", "")
        site.write(
            'log_level = "debug"\nmemory_cache = "1MiB"\n',
            '[upstreams."ghcr.example"]\nurl = "http://127.0.0.1:1"\n',
        )
        told = await site.reload()
        assert told.code == 0
        assert told.out == (
            "changed: log_level, upstreams.ghcr.example (new)\n"
            "needs a restart, and is not in force: memory_cache\n"
        )
        status, body = await fetch(f"{url}/v2/a/b/manifests/c?ns=ghcr.example")
        assert (status, b"NAME_UNKNOWN" in body) == (503, False)
        assert "reloaded: changed: log_level, upstreams.ghcr.example (new)" in mirror.err


async def refusing(url: str) -> None:
    """Wait until a mirror takes no more clients: it is stopping."""
    async with asyncio.timeout(10):
        with suppress(aiohttp.ClientConnectorError):
            while True:
                await fetch(f"{url}/healthz")
                await asyncio.sleep(0.01)


BAD = {
    "no TOML": ("log_level", "", "is not TOML"),
    "a key twice": ('log_level = "info"\nlog_level = "debug"', "", "is not TOML"),
    "a table twice": ("", '[upstreams."docker.io"]\ndeny = []\n', "is not TOML"),
    "a key that nobody knows": ("tag_tll = 5", "", "did you mean tag_ttl?"),
    "a value that is not allowed": ('log_level = "loud"', "", "'loud': expected 'debug', 'info'"),
    "an upstream without an address": ("", '[upstreams."quay.io"]\n', "expected a value"),
    "a file that is not there": ("", 'ca_file = "/gone"\n', "ca_file is '/gone'"),
    "a password that is not there": (
        "",
        'username = "me"\npassword_file = "/gone"\n',
        "password_file is '/gone': cannot be read",
    ),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_file_changes_nothing_and_is_reported_as_at_the_start(
    site: Site, case: str
) -> None:
    top, rest, words = BAD[case]
    async with serving(site.data, "--config", site.file) as mirror:
        url = await mirror.address(within=30)
        site.write(f"client_rate = 0.01\n{top}", rest)
        refused = await site.reload()
        assert (refused.code, refused.out) == (1, "")
        assert words in refused.err
        options = ("--listen", "127.0.0.1:0", "--data-dir", site.data)
        start = await serve_to_the_end("--config", site.file, *options)
        assert start == (2, "", refused.err)
        mirror.send(signal.SIGHUP)
        await mirror.says(f"nothing was reloaded: {refused.err.removeprefix('mirror: ').strip()}")
        for _ in range(3):  # the file's rate is not in force
            assert (await fetch(f"{url}/v2/"))[0] == 200


async def test_a_file_that_cannot_be_read_changes_nothing(site: Site) -> None:
    async with serving(site.data, "--config", site.file) as mirror:
        await mirror.address(within=30)
        site.file.unlink()
        mirror.send(signal.SIGHUP)
        await mirror.says(f"nothing was reloaded: {site.file}: cannot be read: No such file")
        refused = await site.reload()
        assert (refused.code, refused.err) == (
            1,
            f"mirror: {site.file}: cannot be read: No such file or directory\n",
        )


async def test_secrets_that_only_the_mirror_has_are_no_fault_of_the_file(
    site: Site, tmp_path: Path, hub: Hub, image: Image
) -> None:
    """The unit's LoadCredential gives the secrets to the mirror alone."""
    hub.terms.users["me"] = "right"
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    secret = secrets / "mirror_upstreams__docker_io__password"
    secret.write_text("wrong")
    site.write("", 'username = "me"\nprivate = "everyone"\n')
    env = {"MIRROR_SECRETS_DIR": str(secrets)}
    async with serving(site.data, "--config", site.file, env=env) as mirror:
        url = await mirror.address(within=30)
        assert (await fetch(f"{url}/v2/{NAME}/manifests/latest"))[0] == 403
        secret.write_text("right")
        told = await site.reload()
        assert told == (0, "changed: upstreams.docker.io.password\n", "")
        status, body = await fetch(f"{url}/v2/{NAME}/manifests/latest")
        assert (status, body) == (200, image.manifest)
        assert "right" not in mirror.err.replace("right now", "")


async def test_a_variable_that_overrules_a_changed_key_is_named_again(site: Site) -> None:
    env = {"MIRROR_MAX_FETCHES": "20"}
    async with serving(site.data, "--config", site.file, env=env) as mirror:
        await mirror.address(within=30)
        site.write("max_fetches = 30")
        assert (await site.reload()).out == "nothing has changed\n"
        assert f"MIRROR_MAX_FETCHES overrules max_fetches of {site.file}" in mirror.err


async def test_where_no_mirror_runs_that_is_said(site: Site) -> None:
    nowhere = f"mirror: no mirror keeps its data in {site.data}\n"
    assert await site.reload() == (2, "", nowhere)
    (site.data / "blobs").mkdir(parents=True)
    refused = await site.reload()
    assert refused.code == 2
    assert refused.err == (
        f"mirror: no mirror takes orders on {site.data}/control.sock: none runs there, or it is "
        "starting or stopping; `mirror serve` starts one, --data-dir names the data folder of "
        "another\n"
    )


async def test_a_hangup_before_the_mirror_has_started_is_carried_out_when_it_has(
    site: Site,
) -> None:
    program = (
        "import os, signal, sys\nfrom mirror.app import deferred_signals\n"
        "from mirror.cli import main\ndeferred_signals.defer()\n"
        "os.kill(os.getpid(), signal.SIGHUP)\nsys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program]
    async with serving(site.data, "--config", site.file, command=command) as mirror:
        await mirror.says("the configuration is read again when the mirror has started", within=30)
        await mirror.says("reloaded: nothing has changed", within=30)
        mirror.send(signal.SIGTERM)
        assert (await mirror.ended(within=30)).code == 0


async def test_a_reload_while_the_mirror_stops_is_answered_in_words(
    site: Site, hub: Hub, image: Image
) -> None:
    layer, go = image.layers[-1], asyncio.Event()
    hub.faults.add(Fault(kind="blob", reference=layer.digest, stall_after=100_000, until=go))
    async with (
        serving(site.data, "--config", site.file) as mirror,
        aiohttp.ClientSession() as session,
    ):
        url = await mirror.address(within=30)
        async with session.get(f"{url}/v2/{NAME}/blobs/{layer.digest}") as response:
            await response.content.readexactly(1000)
            mirror.send(signal.SIGTERM)
            await refusing(url)
            mirror.send(signal.SIGHUP)
            await mirror.says("SIGHUP: the mirror is stopping: nothing is reloaded")
            refused = await site.reload()
            assert refused == (2, "", "mirror: the mirror is stopping: nothing was reloaded\n")
            go.set()
            assert len(await response.read()) == layer.size - 1000
        assert (await mirror.ended(within=30)).code == 0


async def test_a_hangup_is_no_end_and_many_of_them_are_few_reloads(tmp_path: Path) -> None:
    async with serving(tmp_path / "data", "--upstream", NOBODY) as mirror:
        url = await mirror.address(within=30)
        for _ in range(50):
            os.kill(mirror.pid, signal.SIGHUP)
        await mirror.says("reloaded: nothing has changed", within=30)
        assert (await fetch(f"{url}/healthz"))[0] == 200
        mirror.send(signal.SIGTERM)
        ended = await mirror.ended(within=30)
        assert ended.code == 0
        assert ended.err.count("reloaded:") < 50
