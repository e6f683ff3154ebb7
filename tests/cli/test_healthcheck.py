"""`mirror healthcheck` tells whether the mirror runs, on any kind of address."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import trustme

from mirror.admin import health, socket_server
from mirror.settings import load
from tests.support.command import NOBODY, Ended, launched, serving
from tests.support.mirror import Mirror, Run
from tests.support.waiting import until


async def checked(folder: Path, *words: str | Path) -> Ended:
    """Check the mirror of a data folder."""
    async with launched("healthcheck", "--data-dir", folder, *words) as command:
        return await command.ended(within=30)


async def test_a_mirror_that_runs_is_well(tmp_path: Path) -> None:
    async with serving(tmp_path / "data", "--upstream", NOBODY) as command:
        await command.address()
        assert await checked(tmp_path / "data") == (0, "ok\n", "")
        assert await checked(tmp_path / "data", "--ready") == (0, "ok\n", "")
        assert await checked(tmp_path / "data" / ".." / "data") == (0, "ok\n", "")


async def test_a_mirror_that_has_ended_is_not_well(tmp_path: Path) -> None:
    async with serving(tmp_path / "data", "--upstream", NOBODY) as command:
        await command.address()
    config = tmp_path / "mirror.toml"
    config.write_text('listen = "127.0.0.1:1"')
    for folder in (tmp_path / "data", tmp_path / "never"):
        code, out, err = await checked(folder, "--config", config)
        assert (code, out) == (1, "")
        assert err == f"mirror: no mirror runs in {folder} or at 127.0.0.1:1: Connection refused\n"


async def test_it_needs_no_certificate_though_clients_do(tmp_path: Path) -> None:
    authority = trustme.CA()
    pair, ca = tmp_path / "pair.pem", tmp_path / "ca.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(pair)
    authority.cert_pem.write_to_path(ca)
    options = ("--tls-cert", pair, "--tls-key", pair, "--client-ca", ca, "--upstream", NOBODY)
    async with serving(tmp_path / "data", *options) as command:
        await command.says("listens on")
        assert await checked(tmp_path / "data") == (0, "ok\n", "")


@pytest.mark.parametrize("text", ["listn = 1", "no TOML", None])
async def test_a_file_that_was_spoilt_since_has_no_mirror_restarted(
    tmp_path: Path, text: str | None
) -> None:
    """The mirror runs on the file's former content, and a probe must not end it."""
    config, data = tmp_path / "mirror.toml", tmp_path / "data"
    config.write_text("tag_ttl = 30")
    async with serving(data, "--config", config, "--upstream", NOBODY) as command:
        await command.address()
        config.unlink()
        if text is not None:
            config.write_text(text)
        assert await checked(data, "--config", config) == (0, "ok\n", "")
        variables = {"MIRROR_DATA_DIR": str(data), "MIRROR_CONFIG": str(config)}
        async with launched("healthcheck", env=variables) as check:
            assert await check.ended(within=30) == (0, "ok\n", "")
    async with launched("healthcheck", "--config", config) as check:
        code, _, err = await check.ended(within=30)
    assert code == 2
    assert str(config) in err or "listn" in err


async def test_it_sends_no_preamble_though_loopback_is_a_proxys(tmp_path: Path) -> None:
    """Without a control socket, a connection that the mirror accepts is proof enough."""
    config = tmp_path / "mirror.toml"
    fronts = 'trusted_proxies = ["127.0.0.0/8", "::1"]\nproxy_protocol = true\n'
    config.write_text(fronts)
    options = ("--config", config, "--upstream", NOBODY)
    async with serving(tmp_path / "data", *options) as command:
        url = await command.address()
        assert await checked(tmp_path / "data", "--config", config) == (0, "ok\n", "")
        (tmp_path / "data" / "control.sock").unlink()
        config.write_text(f'{fronts}listen = "{url.partition("://")[2]}"')
        assert await checked(tmp_path / "data", "--config", config) == (0, "ok\n", "")


async def test_a_mirror_without_a_control_socket_is_asked_at_its_clients_address(
    tmp_path: Path,
) -> None:
    """A full disk has no room for the socket, and must not cause restarts without end."""
    async with serving(tmp_path / "data", "--upstream", NOBODY) as command:
        url = await command.address()
        (tmp_path / "data" / "control.sock").unlink()
        config = tmp_path / "mirror.toml"
        config.write_text(f'listen = "{url.partition("://")[2]}"')
        assert await checked(tmp_path / "data", "--config", config) == (0, "ok\n", "")
        code, out, err = await checked(tmp_path / "data", "--config", config, "--ready")
        assert (code, out) == (1, "")
        assert err == f"mirror: the mirror is not ready: it takes no orders in {tmp_path}/data\n"


async def test_a_socket_that_the_disk_did_not_take_is_made_when_it_does(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Orders free room on a full disk, and must not wait for a restart."""
    monkeypatch.setattr(socket_server, "_AGAIN", 0.05)
    caplog.set_level("INFO")
    in_the_way = tmp_path / "data" / "control.sock"
    in_the_way.mkdir(parents=True)
    async with run() as mirror:
        settings = load({"data_dir": tmp_path / "data", "listen": str(mirror.daemon.address)})
        assert await asyncio.to_thread(health.check, settings, ready=False) == "ok"
        with pytest.raises(health.Unhealthy, match="not ready"):
            await asyncio.to_thread(health.check, settings, ready=True)
        in_the_way.rmdir()
        await until(lambda: "takes orders on" in caplog.text)
        assert await asyncio.to_thread(health.check, settings, ready=True) == "ok"
    assert not in_the_way.exists()


async def test_ready_names_the_fault(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load({"data_dir": mirror.folder.path})
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(health.Unhealthy, match="the mirror is not ready: cannot write"):
        await asyncio.to_thread(health.check, settings, ready=True)
    assert await asyncio.to_thread(health.check, settings, ready=False) == "ok"
