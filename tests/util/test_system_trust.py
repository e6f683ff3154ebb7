"""The system's CAs are read late, and are trusted all the same."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from mirror.util.system_trust import SystemTrust, read, read_at_first_use

MADE_MEANWHILE = """
import ssl
from mirror.util import system_trust
with system_trust.read_at_first_use():
    from aiohttp import connector
context = connector._SSL_CONTEXT_VERIFIED
assert ssl.create_default_context.__module__ == "ssl"
print(type(context).__name__, len(context.get_ca_certs()))
system_trust.read()
print(len(context.get_ca_certs()))
"""


def test_it_is_as_strict_as_the_default_context() -> None:
    late, default = SystemTrust(), ssl.create_default_context()
    for name in ("verify_mode", "verify_flags", "check_hostname", "options", "minimum_version"):
        assert getattr(late, name) == getattr(default, name), name
    assert late.get_ciphers() == default.get_ciphers()


def test_no_context_but_the_default_one_is_made_late() -> None:
    with read_at_first_use():
        late = ssl.create_default_context()
    assert isinstance(late, SystemTrust)
    assert not isinstance(ssl.create_default_context(), SystemTrust)
    read()


def test_aiohttp_reads_no_ca_as_it_is_imported_but_on_demand(tmp_path: Path) -> None:
    trusted = tmp_path / "ca.pem"
    trusted.write_bytes(trustme.CA().cert_pem.bytes())
    ran = subprocess.run(
        [sys.executable, "-c", MADE_MEANWHILE],
        cwd=Path(__file__).parents[2],
        env={"SSL_CERT_FILE": str(trusted)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ran.stdout.split() == ["SystemTrust", "0", "1"]


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_connection_trusts_the_systems_cas_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_known: bool
) -> None:
    ca, other = trustme.CA(), trustme.CA()
    trusted = tmp_path / "ca.pem"
    trusted.write_bytes((ca if is_known else other).cert_pem.bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("localhost").configure_cert(server_side)

    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "localhost", 0, ssl=server_side) as server:
        port = server.sockets[0].getsockname()[1]
        connecting = asyncio.open_connection("localhost", port, ssl=SystemTrust())
        if not is_known:
            with pytest.raises(ssl.SSLCertVerificationError):
                await connecting
            return
        _, writer = await connecting
        writer.close()
        await writer.wait_closed()
