"""Connections of instant answers: their ends, their buffers, and the clients behind them."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trustme

from tests.standin import Fault, Hub, Image, make_image
from tests.support.mirror import Mirror, Run
from tests.web.talk import TAG, head, instant, known, manifest, talking
from tests.web.test_tls import Pair, authority, encrypted, pair, trusting

__all__ = ["authority", "pair"]


async def hits(mirror: Mirror) -> int:
    """Return the number of blobs that were answered from the cache."""
    begin = 'mirror_requests_total{kind="blob",outcome="hit"} '
    text = (await mirror.ask("/metrics")).text
    return int(float(text.partition(begin)[2].partition("\n")[0]))


async def test_a_client_with_a_certificate_is_always_parsed(
    run: Run, image: Image, pair: Pair, authority: trustme.CA, tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    named = trusting(authority)
    authority.issue_cert("ci@example.org", common_name="ci").configure_cert(named)
    async with run(**pair.settings) as mirror, encrypted(mirror, trusting(authority)) as plain:
        async with talking(mirror, trusting(authority)) as talk:
            await known(talk, head(TAG))
            assert (await talk.ask(head(TAG))).body == image.manifest
        assert await instant(plain) == 1
    async with (
        run(**pair.settings, client_ca=tmp_path / "ca.pem") as mirror,
        talking(mirror, named) as talk,
        encrypted(mirror, named) as client,
    ):
        for _ in range(3):
            assert (await talk.ask(head(TAG))).body == image.manifest
        assert await instant(client) == 0


async def test_instant_answers_keep_a_connection_open_that_is_in_use(
    run: Run, image: Image
) -> None:
    async with run(idle_timeout=2) as mirror, talking(mirror) as talk:
        await known(talk, head(TAG))
        await asyncio.sleep(0.7)  # as long as the timer would have run in vain
        await talk.ask(head(TAG))
        assert await instant(mirror) == 1
        last = time.monotonic()
        assert await talk.ended()
        assert time.monotonic() - last > 1.9


async def test_a_client_that_does_not_read_is_not_written_to(run: Run, hub: Hub) -> None:
    image = make_image(5, [50_000])
    hub.add(image, "library/nginx", "latest")
    request = head(f"/v2/library/nginx/blobs/{image.layers[0].digest}")
    async with run() as mirror, talking(mirror) as talk:
        await mirror.pull("library/nginx", "latest", image)
        await known(talk, request)
        for _ in range(1000):  # their answers are more than any buffer takes
            talk.writer.write(request)
            await asyncio.sleep(0)
        assert await hits(mirror) < 1000
        for _ in range(1000):
            assert len((await talk.read()).body) == image.layers[0].size


async def test_a_stop_does_not_wait_for_known_clients(run: Run, image: Image) -> None:
    async with AsyncExitStack() as stack:
        mirror = await stack.enter_async_context(run(shutdown_grace=30))
        talk = await stack.enter_async_context(talking(mirror))
        await known(talk, head(TAG))
        await talk.ask(head(TAG))
        assert await instant(mirror) == 1
        async with asyncio.timeout(10):
            await stack.pop_all().aclose()


async def test_a_client_that_a_proxy_tells_of_is_the_one_that_is_logged(
    run: Run, image: Image, capfd: pytest.CaptureFixture[str]
) -> None:
    told = b"PROXY TCP4 203.0.113.7 127.0.0.1 4711 5000\r\n"
    async with run(trusted_proxies=["127.0.0.1"], proxy_protocol=True) as mirror:
        for _ in range(2):
            async with talking(mirror) as talk:
                talk.writer.write(told)
                await known(talk, head(TAG))
                await talk.ask(head(TAG))
    lines = [line for line in capfd.readouterr().err.splitlines() if "docker/27.1" in line]
    assert len(lines) == 6
    assert all(" client=203.0.113.7 " in line for line in lines)
    assert len({re.sub(r"^\S+| seconds=\S+| request=\S+", "", line) for line in lines}) == 2


async def turns(number: int = 20) -> None:
    """Give the mirror time to read the bytes sent."""
    for _ in range(number):
        await asyncio.sleep(0)


async def test_a_known_request_waits_for_the_answer_before_it(
    mirror: Mirror, hub: Hub, image: Image
) -> None:
    async with talking(mirror) as talk:
        await known(talk, head(TAG))
        goes_on = asyncio.Event()
        hub.faults.add(Fault(kind="manifest", hang=True, until=goes_on, times=None))
        talk.writer.write(head(manifest("none")))
        await turns()
        talk.writer.write(head(TAG))
        await turns()
        goes_on.set()
        assert (await talk.read()).status == 404
        assert (await talk.read()).body == image.manifest


async def test_a_known_request_within_another_head_is_a_part_of_that(
    mirror: Mirror, image: Image
) -> None:
    async with talking(mirror) as talk:
        await known(talk, head(TAG))
        talk.writer.write(b"GET /v2/ HTTP/1.1\r\nX: ")
        await turns()
        talk.writer.write(head(TAG))
        assert (await talk.read()).body == b"{}"
    assert await instant(mirror) == 0


async def test_a_connection_with_instant_answers_is_not_the_longest_idle(
    run: Run, image: Image
) -> None:
    async with (
        run(max_connections=2) as mirror,
        talking(mirror) as first,
        talking(mirror) as second,
    ):
        await known(first, head(TAG))
        await second.ask(head(TAG, Accept="*/*"))
        await first.ask(head(TAG))
        async with talking(mirror) as third:
            await third.ask(head(TAG))
            assert (await first.ask(head(TAG))).body == image.manifest
