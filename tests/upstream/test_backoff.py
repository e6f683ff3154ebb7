"""Backoff: the question of a 429 rests for seconds, and no other question does."""

from __future__ import annotations

import pytest
from yarl import URL

from mirror.upstream.backoff import LONGEST, Backoff, Topic
from tests.standin import Fault, Hub, Image
from tests.support.clock import Clock
from tests.support.mirror import Mirror, Run

REPOSITORY = "library/nginx"
HOST, OTHER = URL("https://registry.example"), URL("https://cdn.example")
TOPIC = Topic("manifest", "GET", "/v2/a/manifests/1")


@pytest.fixture
def clock() -> Clock:
    """A clock that the test sets."""
    return Clock()


@pytest.fixture
def backoff(clock: Clock) -> Backoff:
    """A backoff without any refusal yet."""
    return Backoff(clock)


def names(count: int) -> list[Topic]:
    return [TOPIC._replace(name=f"/v2/a/manifests/{number}") for number in range(count)]


def test_a_refused_question_rests_for_as_long_as_the_host_says(
    backoff: Backoff, clock: Clock
) -> None:
    backoff.refused(HOST, TOPIC, 7)
    clock.now = 6.5
    assert backoff.rest(HOST, TOPIC) == 1
    clock.now = 7
    assert backoff.rest(HOST, TOPIC) is None


def test_after_ten_seconds_it_is_asked_again_whatever_the_host_says(
    backoff: Backoff, clock: Clock
) -> None:
    backoff.refused(HOST, TOPIC, 3600)
    clock.now = LONGEST - 1
    assert backoff.rest(HOST, TOPIC) == 3600 - 9
    clock.now = LONGEST
    assert backoff.rest(HOST, TOPIC) is None


@pytest.mark.parametrize(("said", "rest"), [(None, 5), (0, 1)])
def test_a_host_that_names_no_time_rests_for_a_moment(
    backoff: Backoff, clock: Clock, said: int | None, rest: float
) -> None:
    backoff.refused(HOST, TOPIC, said)
    clock.now = rest - 0.1
    assert backoff.rest(HOST, TOPIC) == 1
    clock.now = rest
    assert backoff.rest(HOST, TOPIC) is None


@pytest.mark.parametrize(
    ("host", "topic"),
    [
        (OTHER, TOPIC),
        (HOST, TOPIC._replace(kind="blob")),
        (HOST, TOPIC._replace(method="HEAD")),
        (HOST, TOPIC._replace(name="/v2/a/manifests/2")),
    ],
)
def test_another_host_kind_method_or_name_is_asked(
    backoff: Backoff, host: URL, topic: Topic
) -> None:
    backoff.refused(HOST, TOPIC, 60)
    assert backoff.rest(host, topic) is None


def test_a_kind_of_which_many_names_are_refused_rests_and_is_tried_by_one(
    backoff: Backoff, clock: Clock
) -> None:
    for topic in names(5):
        backoff.refused(HOST, topic, 60)
    fresh = TOPIC._replace(name="/v2/b/manifests/1")
    assert backoff.rest(HOST, fresh) == 60
    clock.now = LONGEST
    assert [backoff.rest(HOST, fresh) for _ in range(3)] == [None, 50, 50]
    backoff.answered(HOST, fresh)
    assert backoff.rest(HOST, TOPIC._replace(name="/v2/c/manifests/1")) is None


def test_made_up_names_take_a_bounded_amount_of_memory(backoff: Backoff) -> None:
    for topic in names(5000):
        backoff.refused(HOST, topic, 60)
    [kind] = backoff._kinds.values()
    assert len(kind.names) <= 256


async def test_a_rate_limit_of_the_content_network_leaves_the_registry_alone(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    page = {"Content-Type": "text/html", "Retry-After": "600"}
    hub.faults.add(Fault(kind="blob", port="cdn", status=429, headers=page, body=b"<html>"))
    layer = image.layers[0].digest
    refused = await mirror.blob(REPOSITORY, layer)
    assert (refused.status, refused.headers["Retry-After"]) == (429, "600")
    assert (await mirror.manifest(REPOSITORY, "latest")).body == image.manifest
    other = next(blob for blob in image.blobs if blob.digest != layer)
    assert (await mirror.blob(REPOSITORY, other.digest)).body == other.read()


async def test_a_rate_limit_of_referrers_leaves_manifests_and_blobs_alone(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    hub.faults.add(Fault.abuse("referrers", times=None, retry_after=3600))
    path = f"/v2/{REPOSITORY}/referrers/{image.digest}"
    assert (await mirror.ask(path)).headers["Retry-After"] == "3600"
    await mirror.pull(REPOSITORY, "latest", image)


async def test_requests_a_minute_in_the_headers_are_no_pulls(
    hub: Hub, run: Run, image: Image
) -> None:
    said = {"RateLimit-Limit": "600", "RateLimit-Remaining": "0", "RateLimit-Reset": "60"}
    hub.faults.add(Fault(kind="manifest", headers=said, times=None))
    upstreams = {"registry.example": {"url": hub.url}}
    async with run(upstreams=upstreams, tag_ttl=0) as mirror:
        for _ in range(3):
            got = await mirror.manifest("registry.example/" + REPOSITORY, "latest")
            assert got.body == image.manifest
        assert b"mirror_pull_limit{" not in (await mirror.ask("/metrics")).body
