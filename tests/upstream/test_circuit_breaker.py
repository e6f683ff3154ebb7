"""Circuit breaker: a dead upstream costs no time, and is asked again as soon as it is back."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from mirror.upstream.backoff import Topic
from mirror.upstream.circuit_breaker import CircuitBreaker
from tests.standin import Fault, Hub, Image
from tests.support.mirror import Got, Mirror, Run
from tests.support.waiting import until

REPOSITORY = "library/nginx"


async def is_down(mirror: Mirror) -> bool:
    metrics = (await mirror.ask("/metrics")).body.decode()
    return 'mirror_upstream_down{upstream="docker.io"} 1.0' in metrics


async def is_up(mirror: Mirror) -> bool:
    """Whether upstream counts as up."""
    return not await is_down(mirror)


async def wear_out(hub: Hub, mirror: Mirror) -> None:
    """Ask for manifests that are not cached until upstream gets neither HEADs nor GETs."""
    async with asyncio.timeout(30):
        number, worn = 0, False
        while not (worn and await is_down(mirror)):  # a probe may succeed in between
            asked = hub.count(kind="manifest") + hub.count(kind="token")
            assert (await mirror.manifest(REPOSITORY, f"x{number}")).status in (502, 503, 504)
            worn = asked == hub.count(kind="manifest") + hub.count(kind="token")
            number += 1


async def back(mirror: Mirror) -> None:
    """Wait until upstream counts as up."""
    await until(lambda: is_up(mirror))


async def quick(mirror: Mirror, reference: str) -> Got:
    """Ask for a manifest, which must be answered fast."""
    began = time.monotonic()
    got = await mirror.manifest(REPOSITORY, reference)
    assert time.monotonic() - began < 2  # seconds; the timeout is far longer
    return got


@pytest.mark.parametrize(
    "fault",
    [
        Fault(drop=True, times=None),
        Fault(hang=True, times=None),
        Fault(status=503, times=None),
    ],
    ids=["drops", "hangs", "says 503"],
)
async def test_a_dead_upstream_costs_no_time_until_it_is_back(
    hub: Hub, run: Run, image: Image, fault: Fault
) -> None:
    async with run(tag_ttl=0, answer_timeout=0.4) as mirror:
        await mirror.manifest(REPOSITORY, "latest")
        hub.faults.add(fault)
        await wear_out(hub, mirror)
        refused = await quick(mirror, "uncached")
        assert (refused.status, int(refused.headers["Retry-After"]) > 0) == (503, True)
        assert (await quick(mirror, "latest")).body == image.manifest
        hub.faults.clear()
        await back(mirror)
        hub.add(image, REPOSITORY, "uncached")
        assert (await mirror.manifest(REPOSITORY, "uncached")).body == image.manifest


async def test_a_dead_upstream_is_probed_by_what_costs_nothing(
    hub: Hub, run: Run, image: Image
) -> None:
    hub.faults.add(Fault(kind="manifest", drop=True, times=None))
    async with run() as mirror:
        await wear_out(hub, mirror)
        hub.journal.clear()
        await quick(mirror, "latest")
        await back(mirror)
    assert {seen.kind for seen in hub.requests} == {"ping"}


@pytest.mark.parametrize(
    "probe",
    [Fault(status=503), Fault(status=502), Fault(drop=True), Fault(hang=True)],
    ids=["503", "502", "hangs up", "is silent"],
)
async def test_a_host_with_nothing_at_the_probed_path_is_asked_once_it_is_well(
    hub: Hub, run: Run, image: Image, probe: Fault
) -> None:
    hub.terms.auth = "none"  # else the probe meets a challenge, which counts as an answer
    hub.faults.add(replace(probe, kind="ping", times=None))
    outage = hub.faults.add(Fault(status=503, kind="manifest", times=None))
    async with run(tag_ttl=0, answer_timeout=1) as mirror:
        for number in range(6):
            await mirror.manifest(REPOSITORY, f"x{number}")
        assert await is_down(mirror)
        hub.faults.remove(outage)
        # 15 s: the longest that a wrong verdict is remembered
        await until(lambda: mirror.serves(REPOSITORY, "latest"), within=15)


def test_a_host_that_is_away_is_asked_little_by_what_is_let_through() -> None:
    breaker = CircuitBreaker()
    for topic in others(GET, 5):
        breaker.failed(topic, silent=False)
    assert breaker.refuses(GET)
    breaker.let_through()
    assert not breaker.refuses(GET)
    assert breaker.refuses(GET)


async def test_a_content_network_that_is_down_leaves_the_registry_up(
    hub: Hub, run: Run, image: Image
) -> None:
    hub.faults.add(Fault(kind="blob", port="cdn", drop=True, times=None))
    async with run() as mirror:
        for _ in range(3):
            assert (await mirror.blob(REPOSITORY, image.layers[0].digest)).status == 503
        assert not await is_down(mirror)
        assert (await mirror.manifest(REPOSITORY, "latest")).body == image.manifest


async def test_a_path_that_always_fails_closes_no_other(hub: Hub, run: Run, image: Image) -> None:
    hub.faults.add(Fault(kind="manifest", reference="broken", status=503, times=None))
    async with run(tag_ttl=0, missing_ttl=0) as mirror:
        for _ in range(10):
            assert (await mirror.manifest(REPOSITORY, "broken")).status == 503
        assert not await is_down(mirror)
        assert (await mirror.manifest(REPOSITORY, "latest")).body == image.manifest


async def test_a_kind_of_question_that_always_fails_closes_no_other(
    hub: Hub, run: Run, image: Image
) -> None:
    hub.faults.add(Fault(kind="referrers", status=503, times=None))
    async with run(tag_ttl=0) as mirror:
        for number in range(9):
            path = f"/v2/{REPOSITORY}/referrers/sha256:{number:064}"
            assert (await mirror.ask(path)).status == 503
        assert (await mirror.manifest(REPOSITORY, "latest")).body == image.manifest
        assert (await mirror.blob(REPOSITORY, image.blobs[0].digest)).status == 200


HEAD, GET = Topic("manifest", "HEAD", "/v2/a/manifests/1"), Topic("blob", "GET", "/v2/a/blobs/1")


def others(topic: Topic, count: int) -> list[Topic]:
    return [topic._replace(name=f"{topic.name}{number}") for number in range(count)]


def test_a_few_failures_between_answers_open_nothing() -> None:
    breaker = CircuitBreaker()
    for _ in range(100):
        breaker.failed(HEAD, silent=True)
        breaker.failed(others(HEAD, 1)[0], silent=False)
        assert not breaker.open
        breaker.succeeded(HEAD)


def test_one_name_that_fails_opens_nothing_and_three_that_are_silent_do() -> None:
    breaker = CircuitBreaker()
    assert not any(breaker.failed(HEAD, silent=True) for _ in range(100))
    assert [breaker.failed(topic, silent=True) for topic in others(HEAD, 3)].count(True) == 1
    assert breaker.refuses(HEAD)
    assert not breaker.refuses(GET)
    assert not breaker.refuses(HEAD._replace(method="GET"))
    assert not breaker.lost


def test_a_host_that_cannot_be_reached_is_asked_nothing() -> None:
    breaker = CircuitBreaker()
    assert [breaker.unreachable() for _ in range(7)].count(True) == 1
    assert breaker.refuses(HEAD)
    assert breaker.refuses(GET)
    breaker.recovered()
    assert not breaker.refuses(GET)


def test_it_opens_once_and_asks_ever_less_often_up_to_a_bound() -> None:
    breaker = CircuitBreaker()
    assert [breaker.failed(each, silent=False) for each in others(HEAD, 9)].count(True) == 1
    pauses = [breaker.pause() for _ in range(10)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == pauses[-2] <= 10
    breaker.recovered()
    assert not breaker.open
    assert breaker.pause() == pauses[-1]  # until a question is answered too
    breaker.succeeded(HEAD)
    assert breaker.pause() == pauses[0]
