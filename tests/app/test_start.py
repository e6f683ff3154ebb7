"""A start: its words on the terminal, and its few needs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import pytest

from mirror.settings import load
from tests.standin import Hub, Image
from tests.support.command import MODULE, NOBODY, SCRIPT, environment, fetch, launched, serving
from tests.support.mirror import Run

PROJECT = Path(__file__).parents[2]
PASSWORD = "s3cret-word"


@pytest.mark.parametrize("command", [SCRIPT, MODULE], ids=["mirror", "python -m mirror"])
async def test_the_greeting_says_all_one_needs_to_begin(
    tmp_path: Path, command: Sequence[str]
) -> None:
    options = ("--max-size", "3GiB", "--upstream", NOBODY)
    async with serving(tmp_path / "data", *options, command=command) as mirror:
        url = await mirror.address()
        assert f"listens on   {url}\n" in mirror.out
        assert f"keeps data   in {tmp_path / 'data'}\n" in mirror.out
        assert "at most 3.0 GiB" in mirror.out
        assert "docker.io (http://127.0.0.1:1, anonymous)" in mirror.out
        assert json.loads(mirror.out.splitlines()[-1]) == {"registry-mirrors": [url]}
        assert (await fetch(f"{url}/readyz")) == (200, b"ok\n")
        assert (await fetch(f"{url}/v2/")) == (200, b"{}")


def test_nothing_needs_to_be_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(os.environ) - set(environment()):
        monkeypatch.delenv(name)
    settings = load()
    assert str(settings.listen) == "127.0.0.1:5000"
    assert settings.data_dir == Path("data")
    assert {name: upstream.url for name, upstream in settings.upstreams.items()} == {
        "docker.io": "https://registry-1.docker.io"
    }


@pytest.mark.skipif(shutil.which("make") is None, reason="apt-get install make")
async def test_make_run_keeps_its_data_in_an_ignored_folder_of_the_checkout(
    tmp_path: Path,
) -> None:
    """The environment is marked as ready, so that nothing is downloaded."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        (tmp_path / name).symlink_to(PROJECT / name)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    (tmp_path / ".venv" / "runs").touch()
    env = {"MIRROR_LISTEN": "127.0.0.1:0", "MIRROR_UPSTREAMS__DOCKER_IO__URL": "http://127.0.0.1:1"}
    async with launched("run", env=env, command=["make"], cwd=tmp_path) as made:
        url = await made.address()
        assert f"keeps data   in {tmp_path / 'data'}\n" in made.out
        assert (await fetch(f"{url}/readyz"))[0] == 200
        assert (tmp_path / "data" / "index.db").is_file()
        made.send(signal.SIGTERM)  # make passes it on
        await made.ended()
    assert "/data/" in (PROJECT / ".gitignore").read_text().splitlines()


@pytest.mark.skipif(shutil.which("make") is None, reason="apt-get install make")
@pytest.mark.parametrize("target", ["run", "test"])
def test_a_python_that_is_too_old_is_named_in_one_line(tmp_path: Path, target: str) -> None:
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "requirements-dev.lock"):
        (tmp_path / name).symlink_to(PROJECT / name)
    old = tmp_path / "python"
    program = "import sys; sys.version_info = (3, 10, 13, 'final', 0); exec(sys.argv[1])"
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{program}" "$2"\n')
    old.chmod(0o755)
    made = subprocess.run(
        ["make", target, f"PYTHON={old}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    first = made.stderr.splitlines()[0]
    assert first == "Python 3.11 or later is wanted, this is 3.10.13: make PYTHON=..."
    assert not (tmp_path / ".venv").exists()


async def test_it_starts_and_serves_stored_content_while_upstream_is_down(
    hub: Hub, run: Run, image: Image, tmp_path: Path
) -> None:
    async with run() as mirror:
        await mirror.pull("library/nginx", "latest", image)
    await hub.down()
    options = ("--upstream", f"docker.io={hub.url}", "--tag-ttl", "0")
    async with serving(tmp_path / "data", *options) as command:
        url = await command.address() + "/v2/library/nginx"
        assert await fetch(f"{url}/manifests/latest") == (200, image.manifest)
        for blob in image.blobs:
            assert await fetch(f"{url}/blobs/{blob.digest}") == (200, blob.read())
        assert (await fetch(f"{url}/manifests/never-asked-for"))[0] == 503
    await hub.up()


@pytest.mark.parametrize(
    ("listen", "hosts"),
    [(":0", ["127.0.0.1"]), ("0.0.0.0:0", ["127.0.0.1"]), ("[::]:0", ["127.0.0.1", "[::1]"])],
)
async def test_it_listens_on_every_address_of_the_kinds_that_are_meant(
    run: Run, listen: str, hosts: list[str]
) -> None:
    async with run(listen=listen) as mirror:
        port = mirror.daemon.address.port
        for host in hosts:
            assert (await fetch(f"http://{host}:{port}/readyz"))[0] == 200


async def test_a_variable_that_overrules_the_file_is_said(tmp_path: Path) -> None:
    config = tmp_path / "mirror.toml"
    config.write_text(
        'listen = "127.0.0.1:1"\ntag_ttl = 30\nmissing_ttl = 5\nmax_size = "3GiB"\n'
        '[upstreams."docker.io"]\nurl = "http://127.0.0.1:2"\nusername = "u"\npassword = "one"\n'
    )
    env = {
        "MIRROR_LISTEN": "127.0.0.1:2",  # a flag overrules both
        "MIRROR_TAG_TTL": "40",
        "MIRROR_MISSING_TTL": "5",  # the same as in the file
        "MIRROR_STALE_AFTER": "1",  # not in the file
        "MIRROR_CONFIG": str(config),
        "MIRROR_UPSTREAMS__DOCKER_IO__PASSWORD": PASSWORD,
    }
    async with serving(tmp_path / "data", env=env) as mirror:
        await mirror.address()
        said = [line.partition("MIRROR_") for line in mirror.err.splitlines()]
    assert [name + rest for _, name, rest in said if " overrules " in rest] == [
        f"MIRROR_TAG_TTL overrules tag_ttl of {config}",
        f"MIRROR_UPSTREAMS__DOCKER_IO__PASSWORD overrules upstreams.docker.io.password of {config}",
    ]
    assert PASSWORD not in mirror.err


async def test_passwords_are_used_and_never_printed(hub: Hub, image: Image, tmp_path: Path) -> None:
    """Each of the three upstreams has its password from another place."""
    names = ("docker.io", "a.example", "b.example")
    hub.terms.users = dict.fromkeys(names, PASSWORD)
    (tmp_path / "password").write_text(PASSWORD + "\n")
    secret = tmp_path / "secrets" / "mirror_upstreams__a_example__password"
    secret.parent.mkdir()
    secret.write_text(PASSWORD + "\n")
    config = tmp_path / "mirror.toml"
    config.write_text(
        'log_level = "debug"\ntag_ttl = 0\nlimit_check = 0\n'
        + "".join(
            f'upstreams."{name}" = '
            f'{{ url = "{hub.url}", username = "{name}", private = "everyone" }}\n'
            for name in names[:2]
        )
        + f'[upstreams."b.example"]\nurl = "{hub.url}"\nusername = "b.example"\n'
        + 'private = "everyone"\n'
        + f'password_file = "{tmp_path / "password"}"\n'
    )
    env = {
        "MIRROR_UPSTREAMS__DOCKER_IO__PASSWORD": PASSWORD,
        "MIRROR_SECRETS_DIR": str(secret.parent),
    }
    async with serving(tmp_path / "data", "--config", config, env=env) as mirror:
        url = await mirror.address()
        manifest = f"{url}/v2/library/nginx/manifests/latest?ns="
        for name in names:
            assert await fetch(manifest + name) == (200, image.manifest)
        tokens = hub.journal.matching(kind="token")
        hub.tokens.revoke()
        hub.terms.users = {}
        answers = [await fetch(manifest + name) for name in names]
        answers.append(await fetch(f"{url}/metrics"))
        mirror.send(signal.SIGTERM)
        ended = await mirror.ended()
    basics = [aiohttp.encode_basic_auth(name, PASSWORD) for name in names]
    assert [seen.headers["authorization"] for seen in tokens] == basics
    shown = ended.out + ended.err + repr(answers)
    assert "b.example" in shown
    for secret_word in (PASSWORD, *(basic.removeprefix("Basic ") for basic in basics)):
        assert secret_word not in shown


async def test_what_libraries_say_of_their_work_is_not_written_at_any_level() -> None:
    """Some libraries write whole answers, with the passwords in them."""
    said = (
        "import logging, mirror.util.logs\n"
        "log_writer = mirror.util.logs.standard_error('text').__enter__()\n"
        "mirror.util.logs.set_up('text', 'debug', log_writer)\n"
        "logging.getLogger('mirror.cli').debug('our own')\n"
        f"logging.getLogger('botocore.parsers').debug('{PASSWORD}')\n"
        f"logging.getLogger('other').info('{PASSWORD}')\n"
        "logging.getLogger('other').warning('a warning')\n"
        "log_writer.__exit__()\n"
    )
    async with launched("-c", said, command=[sys.executable]) as program:
        ended = await program.ended()
    assert [line.split(": ")[1] for line in ended.err.splitlines()] == ["our own", "a warning"]
    assert PASSWORD not in ended.out + ended.err


async def test_what_is_written_is_for_its_own_user(hub: Hub, image: Image, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    async with serving(folder, "--upstream", f"docker.io={hub.url}") as mirror:
        url = f"{await mirror.address()}/v2/library/nginx"
        assert await fetch(f"{url}/manifests/latest") == (200, image.manifest)
        layer = image.layers[1]
        assert await fetch(f"{url}/blobs/{layer.digest}") == (200, layer.read())
        mirror.send(signal.SIGTERM)
        await mirror.ended()
    written = [folder, *folder.rglob("*")]
    assert {path.stat().st_mode & 0o077 for path in written} == {0}
    assert len([path for path in written if path.is_file()]) > 2


async def test_with_json_lines_every_line_is_json(tmp_path: Path) -> None:
    options = ("--log-format", "json", "--upstream", NOBODY)
    async with serving(tmp_path / "data", *options) as mirror:
        await mirror.says('"message": ')
        mirror.send(signal.SIGTERM)
        ended = await mirror.ended()
    lines = [json.loads(line) for line in (ended.out + ended.err).splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
