"""A credential helper is asked as docker asks it, and blocks no pull for ever."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from docker import auth as oracle

from mirror.upstream.auth import credential_helper
from mirror.upstream.auth.credentials import Credentials, CredentialsUnavailable
from tests.standin import Hub, Image
from tests.support.accounts import INDEX, WORD, basic, found, put, upstream
from tests.support.mirror import Run

REPOSITORY = "library/nginx"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The path of a config.json."""
    return tmp_path / "config.json"


Scripted: TypeAlias = Callable[[str, str], Path]
SCRIPT = """#!/bin/sh
echo "$*" > "{folder}/arguments"
cat > "{folder}/server"
{rest}
"""


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """Write a helper: `scripted("name", "commands")`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def write(name: str, rest: str) -> Path:
        script = folder / f"docker-credential-{name}"
        script.write_text(SCRIPT.format(folder=folder, rest=rest))
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        return folder

    return write


def says(username: str, secret: str = WORD, server: str = "") -> str:
    """Return the command that prints an account as helpers do."""
    answer = json.dumps({"ServerURL": server, "Username": username, "Secret": secret})
    return f"printf '%s' '{answer}'"


MISSING = "echo 'credentials not found in native keychain'; exit 1"


async def test_a_helper_is_told_the_server_as_it_stands_there(
    config: Path, scripted: Scripted
) -> None:
    folder = scripted("test", says("robot"))
    for document, host, server in (
        ({"credsStore": "test"}, "docker.io", INDEX),
        ({"credsStore": "test"}, "127.0.0.1:5000", "127.0.0.1:5000"),
        ({"credHelpers": {"https://ghcr.io": "test"}}, "ghcr.io", "https://ghcr.io"),
    ):
        assert await found(config, document, host) == Credentials("robot", WORD)
        assert (folder / "server").read_text() == server
        assert (folder / "arguments").read_text() == "get\n"


async def test_a_helper_without_a_name_is_the_file(config: Path, scripted: Scripted) -> None:
    """An empty helper for one registry means the file, while the others use the default helper."""
    scripted("store", says("store"))
    document = {
        "auths": {name: basic("file") for name in ("ghcr.io", "docker.io")},
        "credsStore": "store",
        "credHelpers": {"ghcr.io": "", "https://index.docker.io/v1/": ""},
    }
    for registry, user in {"ghcr.io": "file", "docker.io": "file", "quay.io": "store"}.items():
        assert (await found(config, document, registry)).username == user


@pytest.mark.parametrize("registry", ["docker.io", "ghcr.io", "quay.io"])
async def test_it_asks_the_helper_that_docker_py_asks(
    config: Path, scripted: Scripted, registry: str
) -> None:
    scripted("store", f'grep -q quay "$(dirname "$0")/server" && {{ {MISSING}; }}; {says("store")}')
    scripted("own", says("own"))
    document = {
        "auths": {name: basic("file") for name in ("docker.io", "ghcr.io", "quay.io")},
        "credsStore": "store",
        "credHelpers": {"ghcr.io": "own"},
    }
    theirs = oracle.load_config(config_dict=json.loads(json.dumps(document)))
    entry = oracle.resolve_authconfig(theirs, registry)
    name = entry.get("Username") or entry.get("username")
    assert (await found(config, document, registry)).username == name
    assert name == {"docker.io": "store", "ghcr.io": "own", "quay.io": "file"}[registry]


async def test_a_helpers_token_is_an_identity_token(config: Path, scripted: Scripted) -> None:
    scripted("test", says("<token>"))
    assert (await found(config, {"credsStore": "test"}, "a.example")).kind == "refresh"


@pytest.mark.parametrize("commands", [MISSING, says("", "")])
async def test_a_helper_without_the_account_is_no_fault(
    config: Path, scripted: Scripted, commands: str
) -> None:
    scripted("test", commands)
    assert not await found(config, {"credsStore": "test"}, "a.example")


@pytest.mark.parametrize(
    "commands",
    [
        f"echo 'the safe is shut'; echo {WORD} >&2; exit 1",
        f"echo '{WORD}'",
        f"""printf '{{"Secret": "{WORD}"}}'""",
        f"""printf '{{"Secret": "{WORD}"}}'; exit 1""",
        f"""printf '{{"Username": 1, "Secret": "{WORD}"}}'""",
    ],
)
async def test_a_helper_that_fails_is_named_and_its_secrets_are_not(
    config: Path, scripted: Scripted, commands: str
) -> None:
    scripted("test", commands)
    with pytest.raises(CredentialsUnavailable, match="docker-credential-test") as caught:
        await found(config, {"credsStore": "test"}, "a.example")
    assert WORD not in str(caught.value) + caught.value.cause


async def test_a_helper_that_is_not_there_is_named(config: Path) -> None:
    with pytest.raises(CredentialsUnavailable, match="docker-credential-nowhere cannot be run"):
        await found(config, {"credsStore": "nowhere"}, "a.example")


def ended(pid: int) -> bool:
    """Return whether a process ends within five seconds."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    gone, _, _ = select.select([process], [], [], 5)
    os.close(process)
    return bool(gone)


async def unanswered() -> None:
    """Ask a helper with a limit of one second; fail if that takes longer than five."""
    async with asyncio.timeout(5):
        with pytest.raises(CredentialsUnavailable, match="docker-credential-test does not answer"):
            await credential_helper.ask("test", "a.example", within=1)


async def test_a_helper_that_hangs_is_ended_with_all_it_started(scripted: Scripted) -> None:
    folder = scripted("test", 'sleep 1000 & echo $! > "$(dirname "$0")/child"; wait')
    await unanswered()
    assert ended(int((folder / "child").read_text()))


async def test_a_helper_that_never_stops_talking_is_ended(scripted: Scripted) -> None:
    folder = scripted("test", 'echo $$ > "$(dirname "$0")/self"; exec cat /dev/zero')
    await unanswered()
    assert ended(int((folder / "self").read_text()))


@pytest.mark.parametrize(("then", "answers"), [(says("robot"), True), ("wait", False)])
async def test_a_process_that_a_helper_left_running_blocks_no_login(
    scripted: Scripted, then: str, answers: bool
) -> None:
    """A process in a separate session cannot be ended, and holds the helper's output open."""
    left = 'setsid sleep 1000 & echo $! > "$(dirname "$0")/child"'
    folder = scripted("test", f"{left}; {then}")
    try:
        if answers:
            async with asyncio.timeout(5):
                account = await credential_helper.ask("test", "a.example")
            assert account == Credentials("robot", WORD)
        else:
            await unanswered()
    finally:
        os.kill(int((folder / "child").read_text()), signal.SIGKILL)


# Through a mirror


async def test_a_helpers_account_pulls_and_is_printed_nowhere(
    hub: Hub,
    run: Run,
    image: Image,
    config: Path,
    scripted: Scripted,
    capfd: pytest.CaptureFixture[str],
) -> None:
    scripted("test", says("robot"))
    hub.terms.users = {"robot": WORD}
    hub.make_private(REPOSITORY, "robot")
    put(config, {"credsStore": "test"})
    account = upstream(hub, docker_config=str(config))
    async with run(upstreams=account) as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
        shown = repr(mirror.daemon) + (await mirror.ask("/metrics")).body.decode()
    out = capfd.readouterr()
    assert WORD not in shown + out.out + out.err


async def test_a_helper_that_fails_is_a_503_but_stored_content_is_served(
    hub: Hub, run: Run, image: Image, config: Path
) -> None:
    async with run(upstreams=upstream(hub)) as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
    put(config, {"credsStore": "nowhere"})
    account = upstream(hub, docker_config=str(config))
    async with run(upstreams=account, tag_ttl=0) as mirror:
        assert (await mirror.manifest(REPOSITORY, "latest")).body == image.manifest
        got = await mirror.manifest(REPOSITORY, "other")
        assert (got.status, b"docker-credential-nowhere" in got.body) == (503, True)
