"""Proxies between clients and the mirror: hostile preambles delay no client."""

from __future__ import annotations

import asyncio
import logging

import pytest

from mirror.web.connections import proxy_receiver
from mirror.web.connections.proxy_preamble import Preamble, PreambleError
from tests.attacks.steps import MOST, steps
from tests.support.mirror import Run
from tests.web.test_trusted_proxies import (
    BEHIND,
    FRONT,
    PING,
    PREAMBLED,
    SIGNATURE,
    say,
    v2,
)

GARBAGE = {
    "no preamble": PING,
    "no preamble, but TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "v1, another family": b"PROXY UDP4 203.0.113.7 127.0.0.1 4711 5000\r\n",
    "v1, no address": b"PROXY TCP4 example.org 127.0.0.1 4711 5000\r\n",
    "v1, an address that is no text": b"PROXY TCP4 \xff\xfe\xfd 127.0.0.1 4711 5000\r\n",
    "v1, too few fields": b"PROXY TCP4 203.0.113.7\r\n",
    "v1, too many fields": b"PROXY TCP4 203.0.113.7 127.0.0.1 4711 5000 9\r\n",
    "v1, no fields": b"PROXY \r\n" + PING,
    "v1, a bare line feed": b"PROXY TCP4 203.0.113.7 127.0.0.1 4711 5000\n" + PING,
    "v1, a byte too long": b"PROXY UNKNOWN".ljust(106) + b"\r\n" + PING,
    "v1, without an end": b"PROXY TCP4 " + b"9" * 100_000,
    "v2, another version": v2("203.0.113.7", command=0x31),
    "v2, another command": v2("203.0.113.7", command=0x2F),
    "v2, shorter than its addresses": SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11),
    "v2, oversized": SIGNATURE + b"\x21\x11\xff\xff" + bytes(65_535) + PING,
    "a signature that is nearly one": SIGNATURE[:-1] + b"X",
}


@pytest.mark.parametrize("case", GARBAGE)
async def test_a_trusted_proxy_without_a_preamble_is_closed_and_told_of(
    run: Run, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    caplog.set_level(logging.WARNING)
    async with run(**PREAMBLED) as mirror:
        assert await say(mirror.daemon.address, GARBAGE[case]) == b""
        assert (await mirror.ask_from("127.0.0.9", "/v2/")).status == 200
    [line] = [each for each in caplog.messages if "PROXY" in each]
    assert line.startswith(f"no PROXY preamble from {FRONT}, which is in trusted_proxies: ")


@pytest.mark.parametrize("size", [1, 11, 12, 15, 16, 27])
async def test_a_preamble_that_breaks_off_is_told_of(
    run: Run, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    async with run(**PREAMBLED) as mirror:
        _, writer = await asyncio.open_connection(*mirror.daemon.address)
        writer.write(v2("203.0.113.7")[:size])
        writer.close()
        async with asyncio.timeout(5):
            while not any("it broke off" in each for each in caplog.messages):
                await mirror.ask_from("127.0.0.9", "/healthz")


async def test_a_balancer_that_only_looks_whether_we_listen_is_not_told_of(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async with run(**PREAMBLED) as mirror:
        reader, writer = await asyncio.open_connection(*mirror.daemon.address)
        writer.write_eof()
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
    assert not [each for each in caplog.messages if "PROXY" in each]


async def test_a_preamble_that_dribbles_is_cut_in_bounded_time(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(proxy_receiver, "_PREAMBLE_TIMEOUT", 0.3)
    async with run(**PREAMBLED) as mirror:
        for said in (b"", b"PROXY TCP4 ", SIGNATURE):
            assert await say(mirror.daemon.address, said) == b""
    assert sum("it did not arrive within 0.3 s" in each for each in caplog.messages) == 3


async def test_connections_without_a_preamble_are_bounded_like_any(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """The proxy is not blamed for connections that make room: it broke none of them off."""
    async with run(**PREAMBLED, max_connections=20) as mirror:
        crowd = [await asyncio.open_connection(*mirror.daemon.address) for _ in range(60)]
        for _, writer in crowd:
            writer.write(b"PROXY ")
        more = [await asyncio.open_connection(*mirror.daemon.address) for _ in range(20)]
        assert (await mirror.ask_from("127.0.0.9", "/v2/")).status == 200
        metrics = (await mirror.ask_from("127.0.0.9", "/metrics")).body.decode()
        assert "\nmirror_connections 20.0\n" in metrics
        assert not [each for each in caplog.messages if "PROXY" in each]
        for _, writer in (*crowd, *more):
            writer.close()


def read(said: bytes) -> int:
    """Read a preamble as it would be from the kernel; returns how much of it was taken."""
    preamble, at = Preamble(), 0
    while preamble.wanted and at < len(said):
        taken = said[at : at + preamble.wanted]
        at += len(taken)
        try:
            preamble.add(taken)
        except PreambleError:
            break
    return at


def test_no_more_is_taken_than_the_preamble_has() -> None:
    for whole in (v2("203.0.113.7"), b"PROXY UNKNOWN\r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n"):
        assert read(whole + PING) == len(whole)


def test_whatever_comes_is_read_in_bounded_bytes() -> None:
    for said in (b"PROXY " + b"9" * 9999, SIGNATURE + b"\x21\x11\xff\xff" + bytes(9999)):
        assert read(said) <= 107


async def test_the_longest_list_of_proxies_holds_nobody_up(run: Run) -> None:
    async with run(**BEHIND) as mirror:
        line = ("X-Forwarded-For: " + "127.0.0.1, " * 1400 + "127.0.0.1\r\n").encode()
        with steps() as longest:
            for _ in range(20):
                got = await say(mirror.daemon.address, PING[:-2] + line * 3 + b"\r\n")
                assert got.startswith(b"HTTP/1.1 200 ")
        assert longest.seconds < MOST, longest.what
