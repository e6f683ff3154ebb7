"""`mirror doctor`: what is wrong has a line that says what to do, and no secret is in any."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from mirror.admin.messages import Finding
from mirror.app.doctor import network
from mirror.app.trial import Trial
from tests.standin import Hub
from tests.support.command import NOBODY, Ended, environment, launched, serving


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data folder."""
    return tmp_path / "data"


async def examined(file: Path, *options: str | Path, **env: str) -> tuple[int, dict[str, Finding]]:
    """Run the doctor; returns its exit code, and its findings by check."""
    async with launched(
        "doctor", "--config", file, "--json", *options, env=environment(env)
    ) as command:
        ended = await command.ended(30)
    assert not ended.err, ended
    findings = [Finding(**each) for each in json.loads(ended.out)]
    for finding in findings:
        assert finding.state in ("ok", "warn", "fail")
        assert bool(finding.advice) == (finding.state != "ok"), finding
    return ended.code, {finding.check: finding for finding in findings}


def configured(tmp_path: Path, folder: Path, url: str, more: str = "", upstream: str = "") -> Path:
    """Write a configuration with one upstream."""
    file = tmp_path / "mirror.toml"
    # The default bound may be more than the file system that holds the test has.
    bound = 'max_size = "1GB"'
    text = f'listen = "127.0.0.1:0"\ndata_dir = "{folder}"\n{bound}\n{more}\n'
    file.write_text(f'{text}[upstreams."docker.io"]\nurl = "{url}"\n{upstream}')
    return file


async def test_a_healthy_mirror_has_nothing_to_do(hub: Hub, folder: Path, tmp_path: Path) -> None:
    file = configured(tmp_path, folder, hub.url)
    async with launched("serve", "--config", file) as mirror:
        await mirror.address()
        code, found = await examined(file)
        async with launched("doctor", "--config", file) as command:
            ended: Ended = await command.ended(30)
    assert code == ended.code == 0
    states = {each.check: each.state for each in found.values()}
    assert set(states) >= {
        "configuration", "data folder", "room", "index", "descriptors", "running mirror",
        "docker.io", "HEAD of docker.io", "clock",
    }  # fmt: skip
    assert not [each for each in found.values() if each.state != "ok"]
    assert "version" in found["running mirror"].words
    assert len(ended.out.splitlines()) == len(found)
    assert all(line.startswith("ok    ") for line in ended.out.splitlines())


async def test_an_upstream_that_cannot_be_reached_is_a_failure(
    folder: Path, tmp_path: Path
) -> None:
    code, found = await examined(configured(tmp_path, folder, NOBODY.partition("=")[2]))
    assert code == 1
    assert found["docker.io"].state == "fail"
    assert "Connection refused" in found["docker.io"].words
    assert found["running mirror"].state == "warn"


async def test_no_secret_is_told(hub: Hub, folder: Path, tmp_path: Path) -> None:
    login = 'username = "somebody"\npassword = "s3cret"\nproxy = "http://user:hush@127.0.0.1:1"\n'
    file = configured(tmp_path, folder, hub.url, upstream=login)
    for options in ((), ("--json",)):
        async with launched("doctor", "--config", file, *options) as command:
            ended = await command.ended(30)
        assert ended.code == 1
        assert "127.0.0.1:1" in ended.out
        assert "s3cret" not in ended.out + ended.err
        assert "hush" not in ended.out + ended.err


async def test_a_damaged_index_is_found_and_left_as_it_is(
    hub: Hub, folder: Path, tmp_path: Path
) -> None:
    async with serving(folder, "--upstream", NOBODY) as mirror:
        await mirror.address()
        mirror.send(signal.SIGTERM)
        await mirror.ended()
    index = folder / "index.db"
    data = bytearray(index.read_bytes())
    data[2000:12000] = b"\xff" * 10000
    index.write_bytes(data)
    code, found = await examined(configured(tmp_path, folder, hub.url))
    assert (code, found["index"].state) == (1, "fail")
    assert index.read_bytes() == data


async def test_a_fault_of_the_configuration_has_its_key_and_line(
    hub: Hub, folder: Path, tmp_path: Path
) -> None:
    file = configured(tmp_path, folder, hub.url, more="log_fmt = 3\n")
    code, found = await examined(file)
    assert (code, found["configuration"].state) == (1, "fail")
    assert "log_fmt (line 4 of" in found["configuration"].words


async def test_the_program_that_has_the_address_is_named(
    hub: Hub, folder: Path, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        file = configured(tmp_path, folder, hub.url)
        file.write_text(file.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}"))
        code, found = await examined(file)
    assert (code, found["listen"].state) == (1, "fail")
    assert f"127.0.0.1:{port} is taken by python" in found["listen"].words
    assert found["configuration"].state == "ok"


@pytest.mark.parametrize(("days", "state"), [(-1, "fail"), (3, "warn"), (300, "ok")])
async def test_the_end_of_the_certificate_is_seen_before_clients_see_it(
    hub: Hub, folder: Path, tmp_path: Path, days: int, state: str
) -> None:
    end = datetime.now(UTC) + timedelta(days=days)
    issued = trustme.CA().issue_cert("localhost", not_after=end, not_before=end - timedelta(500))
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    both = f'tls_cert = "{tmp_path}/both.pem"\ntls_key = "{tmp_path}/both.pem"'
    _, found = await examined(configured(tmp_path, folder, hub.url, more=both))
    assert found["certificate"].state == state


def _clock(*skews: float | None) -> Iterator[Finding]:
    return network._clock([Trial("a", "", skew=skew) for skew in skews])


def test_a_clock_is_compared_with_the_median_of_the_upstreams() -> None:
    assert [each.state for each in _clock(0.4, None, 3000.0, -0.2)] == ["ok"]
    [finding] = _clock(-4000.0)
    assert (finding.state, finding.words) == ("warn", "it is 1 h 7 min behind upstream's")
    assert not [*_clock(None)]
