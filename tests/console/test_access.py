"""Rights to see and to act: names, logins, origins, hosts, and bodies."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import bcrypt
import pytest
import trustme
from aiohttp import encode_basic_auth

from mirror.settings import ConfigurationError, load
from tests.support.mirror import Mirror, Run
from tests.support.ports import free_port
from tests.support.reloading import Changing, reload
from tests.web.test_tls import Pair, authority, encrypted, pair, trusting

__all__ = ["authority", "pair"]

TOKEN = "a-token-of-more-than-16"
OPERATORS = {"clients": {"ci": {"token": TOKEN}, "dev": {"token": TOKEN * 2}}, "operators": "ci"}
CI = encode_basic_auth("ci", TOKEN)


@pytest.mark.parametrize("name", ["images", "api", "static", "requests", "setup", "events"])
def test_no_upstream_is_named_like_a_path_of_the_mirror(name: str) -> None:
    with pytest.raises(ConfigurationError, match="expected a registry's name"):
        load({"upstreams": {name: {"url": "http://127.0.0.1:1"}}})


async def test_the_page_is_at_the_registrys_address(mirror: Mirror) -> None:
    got = await mirror.ask("/")
    assert got.status == 200
    assert "default-src 'none'" in got.headers["Content-Security-Policy"]
    assert got.headers["Referrer-Policy"] == "same-origin"
    assert got.headers["X-Content-Type-Options"] == "nosniff"
    assert got.headers["Cache-Control"] == "no-store"
    assert (await mirror.ask("/v2/")).status == 200
    metrics = (await mirror.ask("/metrics")).body.decode()
    assert 'mirror_requests_total{kind="console",outcome="own"} 1.0' in metrics


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "mirror.attacker.example"}, 421),
        ({"Host": "attacker.example:5000"}, 421),
        ({"Host": "localhost.attacker.example"}, 421),
        ({"Host": "10.0.0.1.attacker.example"}, 421),
        ({"Host": "10.0.0.9:5000"}, 200),
        ({"Host": "[::1]:5000"}, 200),
        ({"Host": "localhost:5000"}, 200),
        ({"Host": "evil.local"}, 421),
        ({"Host": f"{socket.gethostname().partition('.')[0].lower()}.local:5000"}, 200),
        ({"Host": "hub.example:5000"}, 200),
    ],
)
async def test_a_rebound_name_reads_no_page(run: Run, headers: dict[str, str], status: int) -> None:
    async with run(admin_hosts="hub.example") as mirror:
        for path in ("/", "/api/v1/openapi.json"):
            got = await mirror.ask(path, **headers)
            assert (got.status == 421) == (status == 421)
        assert (await mirror.ask("/v2/", **headers)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://attacker.example"},
        {"Origin": "null"},
        {"Origin": "http://[broken"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://{host}"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://attacker.example"},
    ],
)
async def test_another_sites_page_acts_for_no_operator(run: Run, headers: dict[str, str]) -> None:
    async with run(**OPERATORS) as mirror:
        named = {key.replace("-", "_"): value for key, value in headers.items()}
        got = await mirror.ask("/", "POST", Authorization=CI, **named)
        assert got.status == 403
        assert "another site" in got.text


async def test_the_pages_own_form_acts(run: Run) -> None:
    async with run(**OPERATORS) as mirror:
        own = str(mirror.daemon.address)
        got = await mirror.ask("/", "POST", Authorization=CI, Origin=f"http://{own}", Host=own)
        assert got.status == 200


async def test_without_operators_nobody_acts_and_is_told_how(mirror: Mirror) -> None:
    got = await mirror.ask("/", "POST")
    assert got.status == 403
    assert "key operators" in got.text
    assert "mirror" in got.text


async def test_who_is_no_operator_acts_not(run: Run) -> None:
    async with run(**OPERATORS) as mirror:
        got = await mirror.ask("/", "POST")
        assert got.status == 401
        assert got.headers["WWW-Authenticate"].startswith("Basic ")
        dev = encode_basic_auth("dev", TOKEN * 2)
        assert (await mirror.ask("/", "POST", Authorization=dev)).status == 403
        wrong = encode_basic_auth("ci", "wrong")
        got = await mirror.ask("/", Authorization=wrong)
        assert got.status == 401
        assert got.headers["WWW-Authenticate"].startswith("Basic ")


async def test_passwords_tokens_and_basic_logins_know_an_operator(run: Run, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text("alice:" + bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode() + "\n")
    both = {**OPERATORS, "operators": "ci,alice", "htpasswd": str(users)}
    async with run(**both) as mirror:
        alice = encode_basic_auth("alice", "secret")
        for login in (CI, f"Bearer {TOKEN}", alice):
            assert (await mirror.ask("/", "POST", Authorization=login)).status == 200
        got = await mirror.ask("/login", Authorization=alice)
        assert (got.status, got.headers["Location"]) == (303, "/")
        assert (await mirror.ask("/login")).status == 401


async def test_a_page_is_there_though_clients_must_log_in(run: Run) -> None:
    async with run(**OPERATORS, challenge=True) as mirror:
        assert (await mirror.ask("/")).status == 200
        assert (await mirror.ask("/v2/")).status == 401


def test_an_operator_that_cannot_log_in_is_a_fault() -> None:
    with pytest.raises(ConfigurationError, match="operators needs htpasswd"):
        load({"operators": "alice"})
    with pytest.raises(ConfigurationError, match="'alice', which cannot log in"):
        load({"operators": "alice", "clients": {"ci": {"token": TOKEN}}})


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE"])
async def test_other_methods_are_refused(mirror: Mirror, method: str) -> None:
    got = await mirror.ask("/", method)
    assert got.status == 405
    assert got.headers["Allow"] == "GET, HEAD, POST"


async def raw(mirror: Mirror, request: bytes) -> bytes:
    """Send bytes as they are; returns the answer."""
    host, port = mirror.daemon.address
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(request)
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    return answer


FORM = (
    b"POST / HTTP/1.1\r\nHost: localhost\r\nAuthorization: "
    + CI.encode()
    + b"\r\nContent-Type: application/x-www-form-urlencoded\r\n"
)


@pytest.mark.parametrize(
    ("rest", "status"),
    [
        (b"Content-Length: 3\r\n\r\na=b", 200),
        (b"Content-Length: 65537\r\n\r\n", 413),
        (b"Content-Length: 99999999999999999999\r\n\r\n", 400),
        (b"Transfer-Encoding: chunked\r\n\r\n3\r\na=b\r\n0\r\n\r\n", 411),
        (b"Content-Length: 600\r\n\r\n" + b"a=b&" * 150, 400),
        (b"Content-Length: 5\r\n\r\na=%ff", 400),
    ],
)
async def test_a_body_is_bounded(run: Run, rest: bytes, status: int) -> None:
    async with run(**OPERATORS) as mirror:
        answer = await raw(mirror, FORM + rest)
        assert answer.split(b" ")[1] == str(status).encode(), answer


async def test_a_body_comes_in_pieces_and_a_hanging_one_is_given_up(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirror.console.request._PATIENCE", 0.2)
    async with run(**OPERATORS) as mirror:
        host, port = mirror.daemon.address
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(FORM + b"Content-Length: 7\r\n\r\na=b")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(b"&c=d more that is no request")
        assert (await reader.read()).split(b" ")[1] == b"200"
        writer.close()
        answer = await raw(mirror, FORM + b"Content-Length: 7\r\n\r\na=b")
        assert answer.split(b" ")[1] == b"408"


async def test_an_address_of_its_own_has_page_and_api_and_the_registrys_neither(run: Run) -> None:
    port = free_port()
    async with run(admin_listen=f"127.0.0.1:{port}") as mirror:
        assert (await mirror.ask("/")).status == 404
        assert (await mirror.ask("/api/v1/budget")).status == 404
        apart = Mirror(mirror.daemon, mirror.session)
        apart.url = f"http://127.0.0.1:{port}"
        for path in ("/", "/metrics", "/healthz", "/readyz"):
            assert (await apart.ask(path)).status == 200, path
        assert (await apart.ask("/v2/")).status == 404
        assert (await apart.ask("/", Host="attacker.example")).status == 421
        metrics = (await mirror.ask("/metrics")).body.decode()
        assert 'mirror_requests_total{kind="console",outcome="own"} 2.0' in metrics


async def test_operators_and_names_change_without_a_restart(changing: Changing) -> None:
    changing.keys = {"clients": {"ci": {"token": TOKEN}}}
    async with changing.running() as mirror:
        assert (await mirror.ask("/", "POST", Authorization=CI)).status == 403
        assert (await mirror.ask("/", Host="hub.example")).status == 421
        changing.keys |= {"operators": "ci", "admin_hosts": "hub.example"}
        assert set((await reload(mirror)).changed) == {"operators", "admin_hosts"}
        assert (await mirror.ask("/", "POST", Authorization=CI)).status != 403
        assert (await mirror.ask("/", Host="hub.example")).status == 200
        assert (await mirror.ask("/api/v1/images")).status == 401
        changing.keys |= {"operators": ()}
        await reload(mirror)
        assert (await mirror.ask("/api/v1/images")).status == 200


@pytest.mark.parametrize("apart", [False, True])
async def test_a_certificate_knows_an_operator(
    run: Run, pair: Pair, authority: trustme.CA, tmp_path: Path, apart: bool
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "clients.pem")
    settings: dict[str, object] = {**pair.settings, "client_ca": tmp_path / "clients.pem"}
    if apart:
        settings["admin_listen"] = f"127.0.0.1:{free_port()}"
    async with run(**settings, operators="alice") as plain:
        for name, status in (("alice", 200), ("bob", 403)):
            context = trusting(authority)
            authority.issue_cert("x.example", common_name=name).configure_cert(context)
            async with encrypted(plain, context) as mirror:
                if apart:
                    mirror.url = f"https://{settings['admin_listen']}"
                assert (await mirror.ask("/")).status == 200
                assert (await mirror.ask("/api/v1/images")).status == status


@pytest.mark.parametrize("login", ["Basic YTpi", "Bearer wrong-wrong-wrong-wrong", "Basic"])
async def test_a_wrong_login_is_a_problem_of_the_api_and_no_page(run: Run, login: str) -> None:
    async with run(**OPERATORS) as mirror:
        for path in ("/api/v1/status", "/api/v1/images", "/api/v1/none", "/api/v1/export"):
            got = await mirror.ask(path, Authorization=login)
            assert got.status == 401
            assert got.headers["Content-Type"] == "application/problem+json"
            assert json.loads(got.body)["status"] == 401
            assert got.headers["WWW-Authenticate"].startswith("Basic ")
