"""The target of a redirect is not made a victim: the mirror asks it only for a client."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from mirror.oci.digest import Digest
from mirror.upstream.backoff import Topic
from mirror.upstream.circuit_breaker import CircuitBreaker
from tests.attacks.raw import NAME, Raw, answer, speaking
from tests.support.mirror import Mirror, Run
from tests.support.waiting import until

HOSTS = 6
GET = Topic("blob", "GET", "/")


async def test_a_host_that_an_upstream_redirects_to_is_asked_by_clients_only(run: Run) -> None:
    async with speaking(Raw()) as raw, AsyncExitStack() as stack:
        asked: list[str] = []
        well = asyncio.Event()

        async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(writer.get_extra_info("sockname")[0])
            if well.is_set():
                writer.write(answer(b"x"))
            writer.close()

        server = await stack.enter_async_context(await asyncio.start_server(hang_up, "0.0.0.0"))
        port = server.sockets[0].getsockname()[1]
        for host in range(HOSTS):
            location = f"Location: http://127.77.0.{host + 1}:{port}/x".encode()
            raw.answers[f"/h{host}/blobs/"] = answer(b"", location, status=b"307 Elsewhere")
        async with run(upstreams={"docker.io": {"url": raw.url}}) as mirror:
            for host in range(HOSTS):
                for number in range(4):
                    digest = Digest.of(b"%d" % number)
                    await mirror.blob(f"{NAME}/h{host}", digest)
            running = [repr(task.get_coro()) for task in asyncio.all_tasks()]
            assert not [each for each in running if "_probe" in each]
            before = len(asked)
            well.set()  # a host that is well again is tried by the next who asks
            await until(lambda: _answers(mirror), within=20)
            assert set(asked[before:]) == {"127.77.0.1"}


async def _answers(mirror: Mirror) -> bool:
    return (await mirror.blob(f"{NAME}/h0", Digest.of(b"x"))).status == 200


def test_a_host_without_probes_is_tried_less_often_each_time() -> None:
    breaker = CircuitBreaker()
    for _ in range(5):
        breaker.unreachable()
    passed = 0
    for tenth in range(600):
        for _ in range(10):
            breaker.try_again(GET, tenth / 10)
            passed += not breaker.refuses(GET)
    assert 8 <= passed <= 12
    breaker.try_again(GET, 70)
    assert not breaker.refuses(GET)
    breaker.succeeded(GET)
    assert not breaker.refuses(GET)
