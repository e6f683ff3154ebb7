"""At `log_level = "debug"` the log has each decision, with the id of its request."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from mirror.oci.digest import Digest
from mirror.storage.blobs.files import BlobFiles
from tests.standin import Fault, Hub, Image, make_image
from tests.support.accounts import WORD, basic, put
from tests.support.command import SMALL, Command, serving, until_there

REPOSITORY = "library/nginx"


class Talking:
    """A mirror that logs its decisions, and a client with an id for each request."""

    def __init__(self, command: Command, url: str, session: aiohttp.ClientSession) -> None:
        self.command = command
        self._url = url
        self._session = session

    async def ask(self, path: str, own: str) -> int:
        """Ask under an id; returns the status, or 0 if the answer broke off."""
        url = URL(f"{self._url}/v2/{REPOSITORY}/{path}", encoded=True)
        with suppress(aiohttp.ClientPayloadError):
            async with self._session.get(url, headers={"X-Request-Id": own}) as response:
                await response.read()
                return response.status
        return 0

    async def told(self) -> dict[str, list[str]]:
        """Stop the mirror; returns its debug lines by the request's id, or by "" without an id."""
        self.command.send(signal.SIGTERM)
        found: dict[str, list[str]] = {}
        for line in (await self.command.ended(within=20)).err.splitlines():
            told = json.loads(line)
            if told["level"] == "debug":
                found.setdefault(told.get("request", ""), []).append(told["message"])
        return found


@asynccontextmanager
async def talking(
    hub: Hub, folder: Path, *flags: str, env: Mapping[str, str] | None = None
) -> AsyncIterator[Talking]:
    """Run a mirror of the hub, or of the upstreams in a given file."""
    upstream = () if "--config" in flags else ("--upstream", f"docker.io={hub.url}")
    all_flags = (
        *(*upstream, "--log-level", "debug", "--log-format", "json"),
        *("--limit-check", "0", "--shutdown-grace", "0.2", *flags),
    )
    async with (
        serving(folder, *all_flags, env=env, command=SMALL) as command,
        aiohttp.ClientSession(auto_decompress=False) as session,
    ):
        await command.says("listening on")
        [address] = re.findall(r"listening on ([\d.:]+)", command.err)
        yield Talking(command, f"http://{address}", session)


def has(lines: list[str], pattern: str) -> bool:
    """Whether one of the lines matches the pattern."""
    return any(re.search(pattern, line) for line in lines)


async def test_why_a_tag_is_asked_for_is_told(hub: Hub, tmp_path: Path, image: Image) -> None:
    async with talking(hub, tmp_path / "data", "--tag-ttl", "0") as mirror:
        for own in ("first", "again"):
            assert await mirror.ask("manifests/latest", own) == 200
        assert await mirror.ask("manifests/nope", "missing") == 404
        assert await mirror.ask("manifests/nope", "soon") == 404
        told = await mirror.told()
    name = f"docker.io/{REPOSITORY}:latest"
    assert has(told["first"], f"asked what {name} is: it is not known yet")
    assert has(told["first"], f"{name} is {image.digest} now, which is not stored: it is pulled")
    assert has(told["again"], rf"asked what {name} is: its last answer is \d+ s old")
    assert has(told["soon"], "upstream is not asked again so soon: .*nope")
    assert has(told["again"], rf"^HEAD {hub.url}/v2/{REPOSITORY}/manifests/latest: 200 after ")


async def test_why_an_answer_is_stale_is_told(hub: Hub, tmp_path: Path, image: Image) -> None:
    async with talking(hub, tmp_path / "data", "--tag-ttl", "0") as mirror:
        assert await mirror.ask("manifests/latest", "first") == 200
        hub.faults.add(Fault(kind="manifest", status=503, times=None))
        for own in ("failing", "resting"):
            assert await mirror.ask("manifests/latest", own) == 200
        told = await mirror.told()
    stale = rf"docker.io/{REPOSITORY}:latest is served as it was \d+ s ago: upstream could not be"
    assert has(told["failing"], f"upstream does not tell what docker.io/{REPOSITORY}:latest is: ")
    assert has(told["failing"], stale)
    assert has(told["resting"], stale)
    assert not has(told["resting"], "^HEAD ")


@pytest.mark.parametrize("kind", ["password_file", "docker_config", "helper"])
async def test_where_the_account_comes_from_is_told_and_no_secret(
    hub: Hub, tmp_path: Path, image: Image, kind: str
) -> None:
    hub.terms.users["robot"] = WORD
    keys, source = account(tmp_path, kind, URL(hub.url).authority)
    config = tmp_path / "mirror.toml"
    config.write_text(f'[upstreams."docker.io"]\nurl = "{hub.url}"\nprivate = "everyone"\n{keys}')
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    async with talking(hub, tmp_path / "data", "--config", str(config), env=env) as mirror:
        assert await mirror.ask("manifests/latest", "first") == 200
        told = await mirror.told()
    assert has(told["first"], f"^upstream docker.io is asked as 'robot', by {source}$")
    assert WORD not in mirror.command.err
    assert "Bearer" not in mirror.command.err
    assert "scope=" not in mirror.command.err


def account(folder: Path, kind: str, host: str) -> tuple[str, str]:
    """Write an account of the hub's; returns its keys, and the log's words for its source."""
    file = folder / "account"
    if kind == "password_file":
        file.write_text(WORD)
        return f'username = "robot"\npassword_file = "{file}"\n', f"password_file {file}"
    if kind == "docker_config":
        put(file, {"auths": {host: basic("robot")}})
        return f'docker_config = "{file}"\n', f"docker_config {file}"
    put(file, {"credHelpers": {host: "test"}})
    helper = folder / "docker-credential-test"
    answer = json.dumps({"Username": "robot", "Secret": WORD})
    helper.write_text(f"#!/bin/sh\necho '{answer}'\n")
    helper.chmod(0o755)
    told = f"docker-credential-test, which docker_config {file} names"
    return f'docker_config = "{file}"\n', told


async def test_without_an_account_the_log_says_anonymous(
    hub: Hub, tmp_path: Path, image: Image
) -> None:
    async with talking(hub, tmp_path / "data") as mirror:
        assert await mirror.ask("manifests/latest", "first") == 200
        told = await mirror.told()
    nobody = "upstream docker.io is asked anonymously, by the configuration"
    assert has(told["first"], nobody)


async def test_why_a_partial_is_thrown_away_is_told(hub: Hub, tmp_path: Path, image: Image) -> None:
    layer = image.layers[1]
    hub.faults.add(Fault(kind="blob", corrupt_at=layer.size - 1, times=None))
    async with talking(hub, tmp_path / "data") as mirror:
        assert await mirror.ask(f"blobs/{layer.digest}", "wrong") != 200
        told = await mirror.told()
    assert has(told["wrong"], rf"{layer.size} bytes .* of {layer.digest} are thrown away: upstream")
    assert has(told["wrong"], f"{layer.digest} is not fetched: upstream sent bytes that are not")


async def test_why_a_blob_is_not_kept_and_what_goes_for_one_is_told(
    hub: Hub, tmp_path: Path
) -> None:
    images = [make_image(number, [700_000]) for number in (1, 2)]
    for number, each in enumerate(images):
        hub.add(each, REPOSITORY, str(number))
    big = make_image(3, [3_000_000])
    hub.add(big, REPOSITORY, "big")
    folder = tmp_path / "data"
    async with talking(hub, folder, "--max-size", "1900KiB") as mirror:
        for number, each in enumerate(images):
            digest = each.layers[0].digest
            assert await mirror.ask(f"blobs/{digest}", f"layer{number}") == 200
            await asyncio.to_thread(_until_kept, folder, digest)
        assert await mirror.ask(f"blobs/{big.layers[0].digest}", "big") == 200
        err = mirror.command.err
        told = await mirror.told()
    assert has(told["layer1"], r"^room for \S+ \S+: 1 blobs, 0 partials and 0 quarantined files go")
    assert f"cannot store {big.layers[0].digest}, passing it through: " in err
    assert has(told["big"], "are passed through, and not kept: its download gave up the disk")


async def test_a_signature_of_a_content_network_is_not_told(
    hub: Hub, tmp_path: Path, image: Image
) -> None:
    async with talking(hub, tmp_path / "data") as mirror:
        assert await mirror.ask(f"blobs/{image.layers[1].digest}", "blob") == 200
        told = await mirror.told()
    [asked] = [seen for seen in hub.journal.entries if seen.port == "cdn"]
    assert asked.query
    assert asked.query not in mirror.command.err
    assert has(told["blob"], rf"/blobs/{image.layers[1].digest}: 200 after \d\.\d+ s, by ")


async def test_at_info_no_decision_is_told(hub: Hub, tmp_path: Path, image: Image) -> None:
    async with talking(hub, tmp_path / "data", "--log-level", "info") as mirror:
        assert await mirror.ask("manifests/latest", "first") == 200
        assert await mirror.told() == {}


def _until_kept(folder: Path, digest: str) -> None:
    until_there(BlobFiles(folder).path(Digest(digest)))
