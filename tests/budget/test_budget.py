"""The pull budget before a real upstream: gates, reserves, shares, and reserved pulls."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace

import pytest

from tests.standin import Fault, Hub, Image, Index, make_image, make_index
from tests.support.clock import Clock
from tests.support.mirror import Got, Mirror, Run
from tests.support.waiting import until

REPOSITORY = "library/nginx"
CHECK = "ratelimitpreview/test"
SPENT = Fault(
    kind="manifest",
    method="GET",
    status=429,
    body=b'{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your limit."}]}',
    headers={"Content-Type": "application/json"},
)


def add_images(hub: Hub, count: int, repository: str = REPOSITORY) -> list[Image]:
    """Let the hub have images under the tags `0`, `1` and so on."""
    images = [make_image(f"{repository}/{number}", [1000]) for number in range(count)]
    for number, image in enumerate(images):
        hub.add(image, repository, str(number))
    return images


async def gauge(mirror: Mirror, name: str, **labels: str) -> float:
    """One metric's value, from the only sample with these labels."""
    text = (await mirror.ask("/metrics")).body.decode()
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    lines = [line for line in text.splitlines() if line.partition("{")[0].split(" ")[0] == name]
    [line] = [line for line in lines if all(label in line for label in wanted)]
    return float(line.rpartition(" ")[2])


def message(got: Got) -> str:
    """The message of an error document."""
    [error] = json.loads(got.body)["errors"]
    assert error["code"] == "TOOMANYREQUESTS"
    return str(error["message"])


def knocks(hub: Hub) -> int:
    """The number of the hub's requests for manifests."""
    return hub.count(kind="manifest")


# The gate


async def test_a_spent_limit_shuts_the_gate_and_upstream_is_not_asked(hub: Hub, run: Run) -> None:
    hub.terms.limit = 2
    images = add_images(hub, 4)
    async with run(tag_ttl=0) as mirror:
        for tag in ("0", "1"):
            assert (await mirror.manifest(REPOSITORY, tag)).status == 200
        asked = knocks(hub)
        for method in ("GET", "HEAD"):
            got = await mirror.manifest(REPOSITORY, "2", method)
            assert got.status == 429
            assert 0 < int(got.headers["Retry-After"]) <= 21600
        refused = await mirror.manifest(REPOSITORY, images[3].digest)
        assert "docker.io's pull limit is spent: 2 in 6 h, 2 by this mirror" in message(refused)
        stale = await mirror.manifest(REPOSITORY, "0")
        assert (stale.body, stale.cache) == (images[0].manifest, "hit; detail=stale")
        assert "no pull is left" in stale.headers["Warning"]
        assert knocks(hub) == asked
        assert await gauge(mirror, "mirror_pull_gate_shut") == 1
        assert await gauge(mirror, "mirror_stale_serves_total", reason="limit") == 1


async def test_the_gate_opens_when_upstream_says_that_a_pull_is_left(
    hub: Hub, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "mirror.budget.budget")
    hub.terms.limit = 1
    add_images(hub, 2)
    async with run(limit_check=1) as mirror:
        assert (await mirror.manifest(REPOSITORY, "0")).status == 200
        assert (await mirror.manifest(REPOSITORY, "1")).status == 429
        hub.limits.renew()
        await until(lambda: mirror.serves(REPOSITORY, "1"))
        assert await gauge(mirror, "mirror_pull_gate_shuts_total") >= 1
    said = [record.getMessage() for record in caplog.records]
    assert any("docker.io: no pulls left, not asked for" in line for line in said)
    assert "docker.io: pulls are left again" in said


async def test_upstreams_retry_after_is_kept_and_told(hub: Hub, run: Run, image: Image) -> None:
    hub.faults.add(replace(SPENT, headers={**SPENT.headers, "Retry-After": "600"}))
    clock = Clock()
    async with run(clock) as mirror:
        got = await mirror.manifest(REPOSITORY, "latest")
        assert (got.status, got.headers["Retry-After"]) == (429, "600")
        clock.now += 599
        assert (await mirror.manifest(REPOSITORY, "latest")).status == 429
        clock.now += 1
        assert (await mirror.manifest(REPOSITORY, "latest")).status == 200
        assert hub.count(kind="manifest", method="GET") == 2


async def test_a_refusal_that_names_no_time_is_doubted_after_ten_seconds(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    hub.faults.add(SPENT)
    got = await mirror.manifest(REPOSITORY, "latest")
    assert (got.status, got.headers["Retry-After"]) == (429, "10")
    assert (await mirror.manifest(REPOSITORY, image.digest)).status == 429
    assert hub.count(kind="manifest", method="GET") == 1


async def test_too_many_requests_a_minute_rest_what_was_asked_and_nothing_else(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    """Such a refusal says nothing about pulls, nor about other questions."""
    hub.faults.add(Fault.abuse("manifest", times=None))
    assert (await mirror.manifest(REPOSITORY, "latest")).headers["Retry-After"] == "60"
    asked = len(hub.requests)
    got = await mirror.manifest(REPOSITORY, "latest")
    assert got.status == 429
    assert "rate limit" in message(got)
    assert 50 < int(got.headers["Retry-After"]) <= 60
    assert len(hub.requests) == asked
    assert (await mirror.blob(REPOSITORY, image.blobs[0].digest)).status == 200
    assert (await mirror.ask(f"/v2/{REPOSITORY}/tags/list")).status == 200
    hub.faults.clear()
    assert (await mirror.manifest(REPOSITORY, image.digest)).body == image.manifest
    assert await gauge(mirror, "mirror_pull_gate_shut") == 0


async def test_a_web_page_in_place_of_a_refusal_says_nothing_of_pulls(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    """Any front of a registry may count requests, and answer with a page."""
    hub.faults.add(Fault.page("manifest", status=429, times=2))  # of the HEAD and of the GET
    got = await mirror.manifest(REPOSITORY, "latest")
    assert got.status == 429
    assert "rate limit" in message(got)
    assert await gauge(mirror, "mirror_pull_gate_shut") == 0


async def test_a_hub_that_refuses_heads_too_is_left_alone_until_it_does_not(
    hub: Hub, run: Run
) -> None:
    hub.terms.limit, hub.terms.limit_heads = 2, True
    images = add_images(hub, 3)
    async with run(tag_ttl=0) as mirror:
        assert (await mirror.manifest(REPOSITORY, "0")).status == 200
    hub.limits.count(None)  # by another client; the refusal tells
    async with run(tag_ttl=0, limit_check=1) as mirror:
        await hub.seen(lambda seen: seen.repository == CHECK and seen.status == 429)
        asked = hub.count(repository=REPOSITORY)
        got = await mirror.manifest(REPOSITORY, "1")
        assert got.status == 429
        assert 60 <= int(got.headers["Retry-After"]) <= 900
        assert (await mirror.manifest(REPOSITORY, "0")).body == images[0].manifest
        assert hub.count(repository=REPOSITORY) == asked
        hub.limits.renew()
        await until(lambda: mirror.serves(REPOSITORY, "1"))


async def test_a_spent_window_is_still_spent_after_a_restart(hub: Hub, run: Run) -> None:
    hub.terms.limit = 2
    images = add_images(hub, 3)
    async with run() as mirror:
        for tag in ("0", "1"):
            await mirror.manifest(REPOSITORY, tag)
    asked = knocks(hub)
    async with run() as mirror:
        assert (await mirror.manifest(REPOSITORY, "2")).status == 429
        assert (await mirror.manifest(REPOSITORY, "0")).body == images[0].manifest
        assert await gauge(mirror, "mirror_pull_remaining") == 0
    assert knocks(hub) == asked


async def test_a_refusal_with_an_end_is_remembered_over_a_restart(
    hub: Hub, run: Run, image: Image
) -> None:
    hub.faults.add(replace(SPENT, headers={**SPENT.headers, "Retry-After": "600"}))
    async with run() as mirror:
        await mirror.manifest(REPOSITORY, "latest")
    async with run() as mirror:
        got = await mirror.manifest(REPOSITORY, "latest")
        assert got.status == 429
        assert 590 < int(got.headers["Retry-After"]) <= 600
    assert hub.count(kind="manifest", method="GET") == 1


async def test_simultaneous_pulls_beyond_the_limit_are_not_asked_of_upstream(
    hub: Hub, run: Run
) -> None:
    hub.terms.limit = 3
    add_images(hub, 12)
    async with run() as mirror:
        tags = [str(number) for number in range(12)]
        got = await asyncio.gather(*(mirror.manifest(REPOSITORY, tag) for tag in tags))
        statuses = sorted(answer.status for answer in got)
    assert statuses == [200] * 3 + [429] * 9
    assert hub.count(kind="manifest", method="GET") == 3  # not one question too many


# Knowledge of the limit


async def names_limit(mirror: Mirror) -> bool:
    """Whether the metrics show an upstream's limit."""
    return "mirror_pull_limit{" in (await mirror.ask("/metrics")).body.decode()


async def test_the_limit_is_asked_for_at_the_start_and_costs_nothing(hub: Hub, run: Run) -> None:
    hub.terms.limit = 100
    for _ in range(40):
        hub.limits.count(None)  # by others behind the same address
    async with run(limit_check=900) as mirror:
        await hub.seen(lambda seen: seen.repository == CHECK and seen.status == 200)
        await until(lambda: names_limit(mirror))
        assert await gauge(mirror, "mirror_pull_remaining") == 60
        assert await gauge(mirror, "mirror_pull_others") == 40
        assert await gauge(mirror, "mirror_pull_used") == 0
    assert hub.pulls == 0


async def test_an_upstream_that_stops_naming_a_limit_is_unlimited(hub: Hub, run: Run) -> None:
    """Only if Docker Hub means all repositories, and not an image that it exempts."""
    hub.terms.limit = 1
    add_images(hub, 3)
    async with run() as mirror:
        assert (await mirror.manifest(REPOSITORY, "0")).status == 200
        assert (await mirror.manifest(REPOSITORY, "1")).status == 429
    hub.terms.limit = None
    async with run(limit_check=900) as mirror:
        await until(lambda: mirror.serves(REPOSITORY, "1"))
        assert (await mirror.manifest(REPOSITORY, "2")).status == 200
    async with run() as mirror:
        assert "mirror_pull_limit{" not in (await mirror.ask("/metrics")).body.decode()


async def test_a_limit_that_cannot_be_read_is_not_lifted(hub: Hub, run: Run) -> None:
    hub.terms.limit = 1
    add_images(hub, 2)
    unread = {"ratelimit-limit": "1;w=21600;policy=fair"}
    hub.faults.add(Fault(kind="manifest", repository=CHECK, headers=unread, times=None))
    async with run(limit_check=1) as mirror:
        assert (await mirror.manifest(REPOSITORY, "0")).status == 200
        asked = hub.count(repository=CHECK, status=200)
        await hub.seen(lambda seen: seen.repository == CHECK and seen.status == 200, asked + 2)
        assert await gauge(mirror, "mirror_pull_limit") == 1
        assert (await mirror.manifest(REPOSITORY, "1")).status == 429
    assert hub.pulls == 1


async def test_images_that_upstream_exempts_are_not_counted_nor_refused(hub: Hub, run: Run) -> None:
    hub.terms.limit = 1
    hub.terms.sponsored = {"oss/app"}
    images = add_images(hub, 3, "oss/app")
    add_images(hub, 2)
    async with run(tag_ttl=0) as mirror:
        await mirror.manifest(REPOSITORY, "0", "HEAD")  # its answer names the limit
        assert (await mirror.manifest("oss/app", "0")).status == 200
        assert await gauge(mirror, "mirror_pull_used") == 0
        assert (await mirror.manifest(REPOSITORY, "0")).status == 200
        assert (await mirror.manifest(REPOSITORY, "1")).status == 429
        assert (await mirror.manifest("oss/app", "1")).body == images[1].manifest


async def test_an_upstream_that_names_no_limit_is_held_to_the_configured_one(
    hub: Hub, run: Run
) -> None:
    add_images(hub, 3)
    limited = {"url": hub.url, "pull_limit": 2, "pull_window": 600}
    async with run(upstreams={"docker.io": limited}) as mirror:
        for tag in ("0", "1"):
            assert (await mirror.manifest(REPOSITORY, tag)).status == 200
        got = await mirror.manifest(REPOSITORY, "2")
        assert got.status == 429
        assert 590 < int(got.headers["Retry-After"]) <= 600
    assert hub.pulls == 2


# The purposes of pulls


async def test_an_index_is_pulled_only_where_its_platform_can_be_too(hub: Hub, run: Run) -> None:
    hub.terms.limit = 3
    index = _index(hub, "multi")
    add_images(hub, 2)
    async with run() as mirror:
        await mirror.manifest(REPOSITORY, "0")
        assert (await mirror.manifest(REPOSITORY, "multi")).body == index.manifest
        other = await mirror.manifest(REPOSITORY, "1")
        assert other.status == 429  # the last pull is for the index's platform
        child = index.images[0]
        assert (await mirror.manifest(REPOSITORY, child.digest)).body == child.manifest
    assert hub.pulls == 3


async def test_an_index_without_a_pull_for_its_image_is_refused_before_its_pull(
    hub: Hub, run: Run
) -> None:
    hub.terms.limit = 1
    index = _index(hub, "multi")
    async with run() as mirror:
        head = await mirror.manifest(REPOSITORY, "multi", "HEAD")
        assert head.status == 200  # not counted
        for reference in ("multi", index.digest):
            got = await mirror.manifest(REPOSITORY, reference)
            assert got.status == 429
            assert "pull limit is nearly spent, 1 left of 2 wanted" in message(got)
    assert hub.pulls == 0


async def test_an_index_by_digest_is_known_as_one_while_too_little_is_left(
    hub: Hub, run: Run
) -> None:
    """A HEAD tells the type and is not counted: the last pull is not spent on an index in vain."""
    hub.terms.limit = 1
    index, [single] = _index(hub, "multi"), add_images(hub, 1)
    async with run() as mirror:
        await mirror.manifest(REPOSITORY, single.digest, "HEAD")  # its answer names the limit
        got = await mirror.manifest(REPOSITORY, index.digest)
        assert got.status == 429
        assert "pull limit is nearly spent, 1 left of 2 wanted" in message(got)
        assert (await mirror.manifest(REPOSITORY, single.digest)).body == single.manifest
    assert hub.pulls == 1


async def test_a_digest_costs_no_head_while_enough_is_left(hub: Hub, run: Run) -> None:
    hub.terms.limit = 3
    index, [single] = _index(hub, "multi"), add_images(hub, 1)
    async with run() as mirror:
        assert (await mirror.manifest(REPOSITORY, single.digest)).status == 200
        assert (await mirror.manifest(REPOSITORY, index.digest)).status == 200
        assert hub.count(kind="manifest", method="HEAD") == 0


async def test_a_platform_that_changed_is_kept_a_pull_though_another_did_not(
    hub: Hub, run: Run
) -> None:
    hub.terms.limit = 4
    same, old, new = (make_image(number, [1000]) for number in (40, 41, 42))
    hub.add(make_index([old, same]), REPOSITORY, "multi")
    add_images(hub, 2)
    async with run(tag_ttl=0, max_stale=0) as mirror:
        await mirror.manifest(REPOSITORY, "multi")
        await mirror.manifest(REPOSITORY, same.digest)
        hub.add(make_index([new, same]), REPOSITORY, "multi")
        assert (await mirror.manifest(REPOSITORY, "multi")).status == 200
        assert (await mirror.manifest(REPOSITORY, "0")).status == 429
        assert (await mirror.manifest(REPOSITORY, new.digest)).body == new.manifest
    assert hub.pulls == 4


async def test_nothing_is_kept_for_what_no_client_asks_for(hub: Hub, run: Run) -> None:
    """A rebuilt image has the same digest, but its attestation is another one each time."""
    hub.terms.limit = 4
    image = make_image(40, [1000])
    hub.add(_attested(image, 1), REPOSITORY, "multi")
    add_images(hub, 1)
    async with run(tag_ttl=0, max_stale=0) as mirror:
        await mirror.manifest(REPOSITORY, "multi")
        await mirror.manifest(REPOSITORY, image.digest)
        rebuilt = _attested(image, 2)
        hub.add(rebuilt, REPOSITORY, "multi")
        assert (await mirror.manifest(REPOSITORY, "multi")).body == rebuilt.manifest
        assert (await mirror.manifest(REPOSITORY, "0")).status == 200
    assert hub.pulls == 4


async def test_a_wrong_manifest_is_not_paid_for_by_each_client_again(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    hub.faults.add(Fault(kind="manifest", method="GET", times=None, body=lambda body: body + b" "))
    for _ in range(5):
        assert (await mirror.manifest(REPOSITORY, "latest")).status == 502
        assert (await mirror.manifest(REPOSITORY, image.digest)).status == 502
    assert hub.count(kind="manifest", method="GET") == 2  # one repetition, in vain


async def test_a_platform_that_many_want_is_pulled_once(hub: Hub, run: Run) -> None:
    hub.terms.limit = 2
    index = _index(hub, "multi")
    async with run() as mirror:

        async def pull() -> None:
            assert (await mirror.manifest(REPOSITORY, "multi")).body == index.manifest
            child = index.images[0]
            assert (await mirror.manifest(REPOSITORY, child.digest)).body == child.manifest

        await asyncio.gather(*(pull() for _ in range(8)))
    assert hub.pulls == 2


async def test_polling_by_head_costs_nothing(hub: Hub, run: Run) -> None:
    hub.terms.limit = 1
    add_images(hub, 1)
    async with run(tag_ttl=0) as mirror:
        for number in range(5):
            moved = make_image(number + 50)
            hub.tag(REPOSITORY, "0", moved)
            head = await mirror.manifest(REPOSITORY, "0", "HEAD")
            assert head.headers["Docker-Content-Digest"] == moved.digest
    assert hub.pulls == 0


# Saving pulls


async def test_a_changed_tag_is_stale_while_few_pulls_are_left(
    hub: Hub, run: Run, image: Image
) -> None:
    hub.terms.limit = 10
    for _ in range(7):
        hub.limits.count(None)
    async with run(tag_ttl=0, max_stale=3600) as mirror:
        await mirror.manifest(REPOSITORY, "latest")
        moved = make_image(2)
        hub.tag(REPOSITORY, "latest", moved)
        head = await mirror.manifest(REPOSITORY, "latest", "HEAD")
        assert head.headers["Docker-Content-Digest"] == image.digest
        stale = await mirror.manifest(REPOSITORY, "latest")
        assert (stale.body, stale.cache) == (image.manifest, "hit; detail=stale")
        assert "few pulls are left" in stale.headers["Warning"]
        assert (await mirror.manifest(REPOSITORY, moved.digest)).body == moved.manifest
        assert await gauge(mirror, "mirror_stale_serves_total", reason="saving") == 2


async def test_a_changed_tag_is_pulled_at_once_while_many_are_left(
    hub: Hub, run: Run, image: Image
) -> None:
    hub.terms.limit = 10
    async with run(tag_ttl=0, max_stale=3600) as mirror:
        await mirror.manifest(REPOSITORY, "latest")
        moved = make_image(2)
        hub.tag(REPOSITORY, "latest", moved)
        assert (await mirror.manifest(REPOSITORY, "latest")).body == moved.manifest


async def test_a_change_is_held_back_no_longer_than_configured(
    hub: Hub, run: Run, image: Image
) -> None:
    hub.terms.limit = 10
    for _ in range(7):
        hub.limits.count(None)
    clock = Clock()
    async with run(clock, tag_ttl=0, max_stale=0.5) as mirror:
        await mirror.manifest(REPOSITORY, "latest")
        moved = make_image(2)
        hub.tag(REPOSITORY, "latest", moved)
        assert (await mirror.manifest(REPOSITORY, "latest")).body == image.manifest
        clock.now += 5  # the tag is revalidated after five seconds
        assert (await mirror.manifest(REPOSITORY, "latest")).body == moved.manifest


async def test_a_tag_without_heads_is_checked_less_often_while_pulls_are_few(
    hub: Hub, run: Run, image: Image
) -> None:
    """If a HEAD names no digest, each revalidation of a tag costs a pull, changed or not."""
    hub.terms.limit = 10
    for _ in range(6):
        hub.limits.count(None)
    hub.faults.add(Fault(kind="manifest", method="HEAD", times=None, status=405))
    async with run(tag_ttl=0, max_stale=3600) as mirror:
        assert (await mirror.manifest(REPOSITORY, "latest")).status == 200
        for _ in range(5):
            stale = await mirror.manifest(REPOSITORY, "latest")
            assert (stale.body, stale.cache) == (image.manifest, "hit; detail=stale")
            assert "few pulls are left" in stale.headers["Warning"]
    assert hub.pulls == 1


async def test_a_tag_that_only_a_pull_tells_of_is_looked_at_while_many_are_left(
    hub: Hub, run: Run, image: Image
) -> None:
    hub.terms.limit = 10
    hub.faults.add(Fault(kind="manifest", method="HEAD", times=None, status=405))
    async with run(tag_ttl=0, max_stale=3600) as mirror:
        for _ in range(3):
            assert (await mirror.manifest(REPOSITORY, "latest")).body == image.manifest
    assert hub.pulls == 3


async def test_pollers_by_head_keep_no_change_from_others(hub: Hub, run: Run, image: Image) -> None:
    hub.terms.limit = 100
    add_images(hub, 120, "library/polled")
    async with run(tag_ttl=0, max_stale=60) as mirror:
        await mirror.manifest(REPOSITORY, "latest")
        for number in range(120):
            await mirror.manifest("library/polled", str(number), "HEAD")
        moved = make_image(2)
        hub.tag(REPOSITORY, "latest", moved)
        assert (await mirror.manifest(REPOSITORY, "latest")).body == moved.manifest


async def test_no_head_names_what_another_head_was_promised(hub: Hub, run: Run) -> None:
    """The last pull is for one client that was told of a change; the others get the old digest."""
    hub.terms.limit = 4
    add_images(hub, 3)
    async with run(tag_ttl=0, max_stale=0) as mirror:
        for tag in ("0", "1", "2"):
            await mirror.manifest(REPOSITORY, tag)
            hub.tag(REPOSITORY, tag, make_image(f"moved/{tag}"))
        asked = (mirror.manifest(REPOSITORY, tag, "HEAD") for tag in ("0", "1", "2"))
        heads = await asyncio.gather(*asked)
        digests = [head.headers["Docker-Content-Digest"] for head in heads]
        for digest in digests:
            assert (await mirror.manifest(REPOSITORY, digest)).status == 200
    assert hub.pulls == 4


async def test_a_change_without_a_pull_does_not_block_stored_content(
    hub: Hub, run: Run, image: Image
) -> None:
    hub.terms.limit = 2
    add_images(hub, 1)
    async with run(tag_ttl=0, max_stale=0) as mirror:
        await mirror.manifest(REPOSITORY, "latest")
        moved = make_image(2)
        hub.tag(REPOSITORY, "latest", moved)
        head = await mirror.manifest(REPOSITORY, "latest", "HEAD")
        assert head.headers["Docker-Content-Digest"] == moved.digest
        assert (await mirror.manifest(REPOSITORY, "0")).status == 200  # the last pull
        head = await mirror.manifest(REPOSITORY, "latest", "HEAD")
        assert (head.status, head.headers["Docker-Content-Digest"]) == (200, image.digest)
        assert (await mirror.manifest(REPOSITORY, "latest")).body == image.manifest


async def test_a_reserve_is_for_chosen_repositories(hub: Hub, run: Run) -> None:
    hub.terms.limit = 4
    add_images(hub, 4)
    add_images(hub, 4, "team/app")
    chosen = {"url": hub.url, "reserve": 2, "reserved_for": ["team/*"]}
    async with run(tag_ttl=0, upstreams={"docker.io": chosen}) as mirror:
        statuses = [(await mirror.manifest(REPOSITORY, str(tag))).status for tag in range(3)]
        assert statuses == [200, 200, 429]
        refused = await mirror.manifest(REPOSITORY, "3")
        assert "the last 2 pulls of docker.io are reserved for team/*" in message(refused)
        assert (await mirror.manifest(REPOSITORY, "2", "HEAD")).status == 200  # not counted
        statuses = [(await mirror.manifest("team/app", str(tag))).status for tag in range(3)]
        assert statuses == [200, 200, 429]
    assert hub.pulls == 4


# Shares


async def test_a_client_that_spent_its_share_leaves_the_rest_to_others(hub: Hub, run: Run) -> None:
    hub.terms.limit = 10
    images = add_images(hub, 5)
    async with run(tag_ttl=0, shares={"*": 2}) as mirror:
        greedy, other = _Client(mirror, "127.0.0.2"), _Client(mirror, "127.0.0.3")
        for tag in ("0", "1"):
            assert (await greedy.manifest(tag)).status == 200
        refused = await greedy.manifest("2")
        assert refused.status == 429
        spent = "127.0.0.2 has spent its share of docker.io's pull limit: 2 pulls in 6 h"
        assert spent in message(refused)
        assert 0 < int(refused.headers["Retry-After"]) <= 21600
        assert (await greedy.manifest("0")).status == 200  # stored content costs nothing
        assert (await other.manifest("2")).body == images[2].manifest
        assert (await greedy.manifest("2")).status == 200  # nor does another client's pull
    assert hub.pulls == 3


async def test_a_changed_tag_is_stale_only_for_clients_without_a_share_left(
    hub: Hub, run: Run
) -> None:
    hub.terms.limit = 100
    [image] = add_images(hub, 1)
    async with run(tag_ttl=0, shares={"*": 1}) as mirror:
        greedy, other = _Client(mirror, "127.0.0.2"), _Client(mirror, "127.0.0.3")
        assert (await greedy.manifest("0")).body == image.manifest
        moved = make_image(2)
        hub.tag(REPOSITORY, "0", moved)
        head = await greedy.manifest("0", "HEAD")
        assert head.headers["Docker-Content-Digest"] == image.digest
        assert (await greedy.manifest("0")).body == image.manifest
        assert (await other.manifest("0")).body == moved.manifest


async def test_a_network_shares_together(hub: Hub, run: Run) -> None:
    hub.terms.limit = 10
    add_images(hub, 4)
    shares = {"127.0.0.0/28": "20%", "127.0.0.3": 1}
    async with run(shares=shares) as mirror:
        first, second = _Client(mirror, "127.0.0.4"), _Client(mirror, "127.0.0.5")
        named, free = _Client(mirror, "127.0.0.3"), _Client(mirror, "127.0.0.99")
        assert (await first.manifest("0")).status == 200
        assert (await second.manifest("1")).status == 200
        assert "127.0.0.0/28 has spent" in message(await first.manifest("2"))
        assert (await named.manifest("2")).status == 200  # by the more specific share
        assert "127.0.0.3/32 has spent" in message(await named.manifest("3"))
        assert (await free.manifest("3")).status == 200


async def test_a_share_is_remembered_over_a_restart(hub: Hub, run: Run) -> None:
    hub.terms.limit = 10
    add_images(hub, 2)
    async with run(shares={"*": 1}) as mirror:
        assert (await mirror.manifest(REPOSITORY, "0")).status == 200
    async with run(shares={"*": 1}) as mirror:
        assert (await mirror.manifest(REPOSITORY, "1")).status == 429


async def test_a_share_of_one_pull_is_not_two_at_once(hub: Hub, run: Run) -> None:
    hub.terms.limit = 10
    add_images(hub, 6)
    async with run(shares={"*": 2}) as mirror:
        got = await asyncio.gather(*(mirror.manifest(REPOSITORY, str(tag)) for tag in range(6)))
    assert sorted(answer.status for answer in got) == [200] * 2 + [429] * 4
    assert hub.pulls == 2


async def test_a_share_has_room_for_an_index_and_its_platform_or_for_none(
    hub: Hub, run: Run
) -> None:
    hub.terms.limit = 100
    index = _index(hub, "multi")
    add_images(hub, 1)
    child = index.images[0]
    async with run(shares={"127.0.0.2": 1, "*": 2}) as mirror:
        small, enough = _Client(mirror, "127.0.0.2"), _Client(mirror, "127.0.0.3")
        for reference in ("multi", index.digest):
            refused = await small.manifest(reference)
            assert "costs 2 pulls, more than 127.0.0.2/32's whole share" in message(refused)
        assert (await enough.manifest("multi")).body == index.manifest
        assert (await enough.manifest("0")).status == 429  # its last pull is for the platform
        assert (await enough.manifest(child.digest)).body == child.manifest
    assert hub.pulls == 2


async def test_saved_pulls_are_counted(hub: Hub, run: Run, image: Image) -> None:
    hub.terms.limit = 100
    async with run() as mirror:
        for _ in range(5):
            await mirror.manifest(REPOSITORY, "latest")
        await mirror.manifest(REPOSITORY, "latest", "HEAD")
        assert await gauge(mirror, "mirror_pulls_asked_total") == 5
        assert await gauge(mirror, "mirror_pulls_counted_total") == 1
        assert await gauge(mirror, "mirror_pulls_saved") == 4


def _index(hub: Hub, tag: str) -> Index:
    index = make_index([make_image(number + 30, [1000]) for number in range(2)])
    hub.add(index, REPOSITORY, tag)
    return index


def _attested(image: Image, build: int) -> Index:
    """An index with one image and, in BuildKit's way, a manifest that attests to it."""
    attestation = make_image(f"built/{build}", [10], architecture="unknown", os="unknown")
    return make_index([image, attestation])


class _Client:
    """A client with another address."""

    def __init__(self, mirror: Mirror, address: str) -> None:
        self._mirror = mirror
        self._address = address

    async def manifest(self, tag: str, method: str = "GET") -> Got:
        """Ask for a manifest."""
        return await self._mirror.ask_from(
            self._address, f"/v2/{REPOSITORY}/manifests/{tag}", method
        )
