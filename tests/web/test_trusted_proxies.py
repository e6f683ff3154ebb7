"""Clients behind proxies are told apart as if there were no proxy before the mirror."""

from __future__ import annotations

import asyncio
import re
import ssl
import struct
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from mirror.settings import ConfigurationError, load
from mirror.web.connections.client_connections import ClientConnections
from mirror.web.connections.trusted_proxies import TrustedProxies
from tests.standin import Fault, Hub, Image, make_image
from tests.support.clock import Clock
from tests.support.mirror import Run
from tests.support.waiting import until
from tests.web.test_client_logins import (
    WORD,
    add,
    basic,
    hashed,
)
from tests.web.test_clients import Line
from tests.web.test_tls import (
    Pair,
    authority,
    pair,
    trusting,
)

__all__ = ["authority", "pair"]

FRONT = "127.0.0.1"
OTHER = "127.0.0.9"
PATH = "/v2/library/nginx/manifests/latest"
PING = b"GET /v2/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
BEHIND = {"trusted_proxies": [FRONT]}
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def seen(capfd: pytest.CaptureFixture[str]) -> list[str]:
    """Return the clients of the access log, in the order of their requests."""
    return re.findall(r" client=(\S+) ", capfd.readouterr().err)


TOLD = {
    "one proxy": ("203.0.113.7", "203.0.113.7"),
    "what a client has written before": ("10.9.9.9, 203.0.113.7", "203.0.113.7"),
    "two proxies": ("198.51.100.1, 203.0.113.7, 127.0.0.1", "203.0.113.7"),
    "a proxy that is not listed": ("203.0.113.7, 127.0.0.2", "127.0.0.2"),
    "proxies alone": ("127.0.0.1, 127.0.0.1", "127.0.0.1"),
    "a port": ("203.0.113.7:4711", "203.0.113.7"),
    "IPv6": ("2001:DB8::0:7", "2001:db8::7"),
    "IPv6 with a port": ("[2001:db8::7]:4711", "2001:db8::7"),
    "IPv6 in brackets": ("[2001:db8::7]", "2001:db8::7"),
    "IPv6 in quotes": ('"[2001:db8::7]:4711"', "2001:db8::7"),
    "IPv4 in IPv6": ("::ffff:203.0.113.7", "203.0.113.7"),
    "a proxy as IPv4 in IPv6": ("203.0.113.7, ::ffff:127.0.0.1", "203.0.113.7"),
    "a zone": ("fe80::1%eth0", "fe80::1"),
    "empty elements": ("203.0.113.7, ,", "203.0.113.7"),
    "unknown": ("203.0.113.7, unknown", FRONT),
    "no address": ("203.0.113.7, example.org", FRONT),
    "no address before a proxy": ("203.0.113.7, _hidden, 127.0.0.1", FRONT),
    "no port": ("203.0.113.7:port", FRONT),
    "nothing": ("", FRONT),
    "an address of a thousand signs": ("1" * 1000, FRONT),
    "thousands": (", ".join(["10.9.9.9"] * 1000), "10.9.9.9"),
    "thousands of proxies": ("10.9.9.9" + ", 127.0.0.1" * 1000, FRONT),
}


@pytest.mark.parametrize("case", TOLD)
async def test_the_rightmost_address_that_is_no_proxys_is_the_client(
    run: Run, capfd: pytest.CaptureFixture[str], case: str
) -> None:
    said, client = TOLD[case]
    async with run(**BEHIND) as mirror:
        assert (await mirror.ask("/v2/", X_Forwarded_For=said)).status == 200
    assert seen(capfd) == [client]


async def test_several_headers_are_one_list(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    async with run(**BEHIND) as mirror:
        reader, writer = await asyncio.open_connection(*mirror.daemon.address)
        lines = b"X-Forwarded-For: 10.9.9.9\r\nx-forwarded-for: 203.0.113.7\r\n\r\n"
        writer.write(PING.removesuffix(b"\r\n") + lines)
        async with asyncio.timeout(5):
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
    assert seen(capfd) == ["203.0.113.7"]


async def test_nobody_else_is_believed_who_it_is(
    run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    headers = {"X_Forwarded_For": "203.0.113.7", "Forwarded": "for=203.0.113.7"}
    async with run(**BEHIND) as mirror:
        await mirror.ask_from(OTHER, "/v2/", **headers)
    async with run() as mirror:
        await mirror.ask("/v2/", **headers)
    assert seen(capfd) == [OTHER, FRONT]


async def test_a_proxys_clients_write_no_forwarded_that_counts(
    run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    async with run(**BEHIND) as mirror:
        await mirror.ask("/v2/", X_Forwarded_For="203.0.113.7", Forwarded="for=10.9.9.9")
        await mirror.ask("/v2/", Forwarded="for=10.9.9.9")
    assert seen(capfd) == ["203.0.113.7", FRONT]


async def test_links_are_good_behind_any_name_and_scheme(hub: Hub, run: Run) -> None:
    """No other header of a front is needed: links have a path alone, and Host is the name."""
    for number in range(3):
        hub.add(make_image(number, []), "library/nginx", f"v{number}")
    async with run(**BEHIND, host_names=["mirror.example"]) as mirror:
        told = {"X_Forwarded_Proto": "https", "X_Forwarded_Host": "evil.example"}
        path = "/v2/library/nginx/tags/list?n=1"
        got = await mirror.ask(path, Host="mirror.example", X_Forwarded_For="203.0.113.7", **told)
        assert got.headers["Link"].startswith("</v2/library/nginx/tags/list?")
        told["X_Forwarded_Host"] = "mirror.example"
        assert (await mirror.ask(path, Host="evil.example", **told)).status == 403


async def test_each_client_behind_a_proxy_has_a_rate_of_its_own(run: Run) -> None:
    async with run(**BEHIND, client_rate=0.1) as mirror:
        for client in ("203.0.113.7", "203.0.113.8", "2001:db8::1"):
            got = [(await mirror.ask("/v2/", X_Forwarded_For=client)).status for _ in range(2)]
            assert got == [200, 429]
        same = await mirror.ask("/v2/", X_Forwarded_For="2001:db8::2")  # of the same network
        assert same.status == 429


async def test_guesses_behind_a_proxy_hold_off_no_other_client(run: Run, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.touch()
    add(users, "alice", hashed(WORD))
    async with run(**BEHIND, htpasswd=users) as mirror:
        statuses = []
        for number in range(21):
            guess = basic("alice", f"guess {number}")
            got = await mirror.ask("/v2/", Authorization=guess, X_Forwarded_For="203.0.113.7")
            statuses.append(got.status)
        assert statuses == [403] * 20 + [429]
        right = basic("alice", WORD)
        got = await mirror.ask("/v2/", Authorization=right, X_Forwarded_For="203.0.113.8")
        assert got.status == 200


async def test_shares_are_those_of_the_clients_behind_a_proxy(hub: Hub, run: Run) -> None:
    for tag in ("a", "b"):
        hub.add(make_image(tag, [1000]), "library/nginx", tag)
    hub.terms.limit = 100
    shares = {"203.0.113.7": 1}
    upstreams = {"docker.io": {"url": hub.url, "pull_limit": 100}}
    async with run(**BEHIND, shares=shares, upstreams=upstreams) as mirror:
        path = "/v2/library/nginx/manifests/"
        assert (await mirror.ask(path + "a", X_Forwarded_For="203.0.113.7")).status == 200
        assert (await mirror.ask(path + "b", X_Forwarded_For="203.0.113.7")).status == 429
        assert (await mirror.ask(path + "b", X_Forwarded_For="203.0.113.8")).status == 200


class Asked(NamedTuple):
    """A request as its connection knows it."""

    protocol: Line
    remote: str


def test_a_proxys_connection_is_its_clients_while_it_is_answered() -> None:
    """The client with most connections by proxy gives one up, and the proxy itself is unbounded."""
    connections = ClientConnections(6, 2, Clock(), TrustedProxies(["10.0.0.1"]))
    lines = [Line("10.0.0.1") for _ in range(6)]
    for line in lines:
        connections.opened(line, line)
    assert not any(line.aborted for line in lines)
    for line in lines[:5]:
        connections.busy(Asked(line, "203.0.113.7"))  # type: ignore[arg-type]
    connections.busy(Asked(lines[5], "203.0.113.8"))  # type: ignore[arg-type]
    more = Line("10.0.0.1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mirror.web.connections.client_connections._hang_up", Line.abort)
        connections.opened(more, more)
    assert [line.aborted for line in lines] == [False] * 4 + [True, False]
    for line, client in ((lines[0], "203.0.113.7"), (lines[5], "203.0.113.8")):
        connections.rest(Asked(line, client))  # type: ignore[arg-type]
    for line in [*lines, more]:
        connections.closed(line)
    assert len(connections) == 0


def v2(client: str, *, command: int = 0x21, family: int | None = None, tlvs: bytes = b"") -> bytes:
    """Return a preamble of version 2."""
    address = ip_address(client)
    kind = (0x11 if address.version == 4 else 0x21) if family is None else family
    data = address.packed * 2 + struct.pack("!HH", 4711, 5000) + tlvs
    return SIGNATURE + struct.pack("!BBH", command, kind, len(data)) + data


PREAMBLES = {
    "v1": (b"PROXY TCP4 203.0.113.7 127.0.0.1 4711 5000\r\n", "203.0.113.7"),
    "v1, IPv6": (b"PROXY TCP6 2001:db8::7 ::1 4711 5000\r\n", "2001:db8::7"),
    "v1, a zone of any text": (b"PROXY TCP6 fe80::7%\x1b[2Jx ::1 4711 5000\r\n", "fe80::7"),
    "v1, the longest": (
        b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535".ljust(105, b" ") + b"\r\n",
        FRONT,
    ),
    "v1, unknown": (b"PROXY UNKNOWN\r\n", FRONT),
    "v2": (v2("203.0.113.7"), "203.0.113.7"),
    "v2, IPv6": (v2("2001:db8::7"), "2001:db8::7"),
    "v2, IPv4 in IPv6": (v2("::ffff:203.0.113.7"), "203.0.113.7"),
    "v2, TLVs": (v2("203.0.113.7", tlvs=b"\x04\x00\x40" + bytes(64)), "203.0.113.7"),
    "v2, local": (v2("203.0.113.7", command=0x20), FRONT),
    "v2, local and nothing else": (SIGNATURE + b"\x20\x00\x00\x00", FRONT),
    "v2, a socket of Unix": (SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216), FRONT),
}
PREAMBLED = {**BEHIND, "proxy_protocol": True}


async def say(
    address: tuple[str, int], *parts: bytes, tls: ssl.SSLContext | None = None, source: str = FRONT
) -> bytes:
    """Send a preamble in plain, then the rest as it is or within TLS; returns the answer."""
    first, *rest = parts
    reader, writer = await asyncio.open_connection(*address, local_addr=(source, 0))
    try:
        async with asyncio.timeout(5):
            writer.write(first)
            if tls is not None:
                await writer.drain()
                await writer.start_tls(tls, server_hostname="127.0.0.1")
            for part in rest:
                writer.write(part)
                await writer.drain()
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize("case", PREAMBLES)
async def test_a_preamble_tells_the_clients_address(
    run: Run, capfd: pytest.CaptureFixture[str], case: str
) -> None:
    preamble, client = PREAMBLES[case]
    async with run(**PREAMBLED) as mirror:
        address = mirror.daemon.address
        assert (await say(address, preamble + PING)).startswith(b"HTTP/1.1 200 ")
        bytewise = [preamble[at : at + 1] for at in range(len(preamble))]
        assert (await say(address, *bytewise, PING)).startswith(b"HTTP/1.1 200 ")
    assert seen(capfd) == [client] * 2


@pytest.mark.parametrize("case", PREAMBLES)
async def test_a_preamble_stands_before_the_handshake(
    run: Run,
    pair: Pair,
    authority: trustme.CA,
    capfd: pytest.CaptureFixture[str],
    case: str,
) -> None:
    preamble, client = PREAMBLES[case]
    async with run(**PREAMBLED, **pair.settings) as mirror:
        got = await say(mirror.daemon.address, preamble, PING, tls=trusting(authority))
        assert got.startswith(b"HTTP/1.1 200 ")
    assert seen(capfd) == [client]


async def test_a_preamble_and_a_hello_in_one_piece_are_told_apart(
    run: Run, pair: Pair, authority: trustme.CA, capfd: pytest.CaptureFixture[str]
) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting(authority).wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    async with run(**PREAMBLED, **pair.settings) as mirror:
        reader, writer = await asyncio.open_connection(*mirror.daemon.address)
        writer.write(v2("203.0.113.7") + outgoing.read())
        async with asyncio.timeout(5):
            incoming.write(await reader.read(65536))
            while True:
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    incoming.write(await reader.read(65536))
            client.write(PING)
            writer.write(outgoing.read())
            incoming.write(await reader.read(65536))
        writer.close()
    assert seen(capfd) == ["203.0.113.7"]


async def test_behind_a_preamble_that_is_a_proxys_the_header_counts(
    run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    """A TCP balancer stands before an HTTP proxy, and both are listed."""
    header = b"X-Forwarded-For: 203.0.113.7\r\n\r\n"
    ping = PING.removesuffix(b"\r\n") + header
    async with run(proxy_protocol=True, trusted_proxies=[FRONT, "10.0.0.0/8"]) as mirror:
        await say(mirror.daemon.address, v2("10.0.0.7") + ping)
        await say(mirror.daemon.address, v2("203.0.113.9") + ping)
    assert seen(capfd) == ["203.0.113.7", "203.0.113.9"]


async def test_the_connections_of_each_client_behind_a_preamble_are_its_own(
    hub: Hub, run: Run, image: Image
) -> None:
    gate = asyncio.Event()
    hub.faults.add(Fault(kind="blob", stall_after=1000, until=gate))
    blob = image.layers[1]
    request = f"GET /v2/library/nginx/blobs/{blob.digest} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    async with run(**PREAMBLED, max_connections=4) as mirror:
        address = mirror.daemon.address
        held = []
        for _ in range(4):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(v2("203.0.113.7") + request)
            held.append((reader, writer))
        await until(lambda: mirror.daemon.fetches.followers == 4)
        got = await say(address, v2("203.0.113.8") + PING)
        assert got.startswith(b"HTTP/1.1 200 ")
        gate.set()
        for _, writer in held:
            writer.close()


async def test_who_is_no_proxy_needs_no_preamble_and_may_send_none(
    run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    async with run(**PREAMBLED) as mirror:
        assert (await mirror.ask_from(OTHER, "/v2/")).status == 200
        address = mirror.daemon.address
        got = await say(address, v2("203.0.113.7") + PING, source=OTHER)
        assert got.startswith(b"HTTP/1.1 400 ")
    assert seen(capfd)[0] == OTHER


def test_impossible_proxy_settings_are_refused_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match="proxy_protocol needs trusted_proxies"):
        load({"proxy_protocol": True})
    with pytest.raises(ConfigurationError, match="trusted_proxies is 'lb"):
        load({"trusted_proxies": "lb.example"})
    assert load({"trusted_proxies": "10.0.0.0/8, ::1"}).trusted_proxies == ("10.0.0.0/8", "::1/128")
