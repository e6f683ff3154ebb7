"""Tags in use are revalidated before they end, so that no client waits for a HEAD."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest

from mirror.content.manifests import refresh_ahead
from mirror.web.observability import metrics
from tests.standin import Fault, Hub, Image, Seen, make_image
from tests.support.clock import Clock
from tests.support.mirror import Mirror, Run
from tests.support.reloading import GHCR, Changing, manifest, reload
from tests.support.waiting import until

NAME = "library/nginx"
ON = 600  # seconds for which an unused tag is followed
TO_DUE = 26.0  # seconds from the second request of `use` until the tag is due
SOME = tuple(f"v{number}" for number in range(8))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks that follow each other at once, and metrics that are always current."""
    monkeypatch.setattr(refresh_ahead, "_LONGEST_NAP", 0.01)
    monkeypatch.setattr(refresh_ahead, "_TURN", 0.01)
    monkeypatch.setattr(metrics, "_RENDERINGS", 1000.0)


def is_head(seen: Seen) -> bool:
    """Whether upstream was asked about a tag."""
    return seen.kind == "manifest" and seen.method == "HEAD"


def heads(hub: Hub) -> int:
    """Return the number of HEADs that upstream got; each is sent once more with a token at most."""
    return sum(is_head(seen) and seen.status != 401 for seen in hub.requests)


async def use(hub: Hub, mirror: Mirror, clock: Clock, tags: Sequence[str] = ("latest",)) -> None:
    """Request tags twice, so that they are followed; the hub forgets the requests until then."""
    for tag in tags:
        assert (await mirror.manifest(NAME, tag)).status == 200
    clock.now += 20
    for tag in tags:
        assert (await mirror.manifest(NAME, tag)).cache == "hit"
    hub.journal.clear()


async def figure(mirror: Mirror, name: str, labels: str = "") -> float:
    """Return one of the mirror's figures."""
    wanted = f'{name}{{{labels}upstream="docker.io"}}'
    for line in (await mirror.ask("/metrics")).text.splitlines():
        if line.startswith(wanted):
            return float(line.split()[-1])
    raise LookupError(wanted)


async def results(mirror: Mirror, result: str, times: int = 1) -> None:
    """Wait until revalidations have had this result."""
    name, label = "mirror_tags_refreshed_ahead_total", f'result="{result}",'

    async def reached() -> bool:
        return await figure(mirror, name, label) >= times

    await until(reached)
    assert await figure(mirror, name, label) == times


async def in_use(mirror: Mirror, number: int) -> None:
    """Wait until so many tags are followed."""

    async def reached() -> bool:
        return await figure(mirror, "mirror_tags_in_use") == number

    await until(reached)


async def quiet(hub: Hub) -> None:
    """Give the refresh ten turns, in which it sends no HEAD."""
    before = heads(hub)
    await asyncio.sleep(0.1)
    assert heads(hub) == before


async def test_no_client_waits_for_a_tag_in_use(hub: Hub, run: Run, image: Image) -> None:
    clock = Clock()
    async with run(clock, tag_refresh_ahead=ON) as mirror:
        await use(hub, mirror, clock)
        for turn in range(1, 5):
            clock.now += TO_DUE
            await results(mirror, "confirmed", turn)
            clock.now += 20
            assert (await mirror.manifest(NAME, "latest", "HEAD")).cache == "hit"
        assert (heads(hub), hub.pulls) == (4, 0)
        assert await figure(mirror, "mirror_tag_waits_spared_total") == 2


async def test_a_tag_of_one_job_is_not_followed(hub: Hub, run: Run, image: Image) -> None:
    """A job of many runners requests its tag many times at the same moment, and never again."""
    clock = Clock()
    async with run(clock, tag_refresh_ahead=ON) as mirror:
        for _ in range(20):
            await mirror.manifest(NAME, "latest")
            clock.now += 0.5
        clock.now += 40
        await quiet(hub)
        assert await figure(mirror, "mirror_tags_in_use") == 0


async def test_a_tag_out_of_use_is_left_alone(hub: Hub, run: Run, image: Image) -> None:
    clock = Clock()
    async with run(clock, tag_refresh_ahead=120) as mirror:
        await use(hub, mirror, clock)
        clock.now += TO_DUE
        await results(mirror, "confirmed", 1)
        clock.now += 46
        await results(mirror, "confirmed", 2)
        clock.now += 59
        await in_use(mirror, 0)
        assert heads(hub) == 2


async def test_zero_turns_the_refresh_off(hub: Hub, run: Run, image: Image) -> None:
    clock = Clock()
    async with run(clock, tag_refresh_ahead=0) as mirror:
        await use(hub, mirror, clock)
        clock.now += TO_DUE
        await quiet(hub)


async def test_a_changed_tag_costs_its_counted_pull_when_a_client_asks(hub: Hub, run: Run) -> None:
    """A poller sends HEADs for ever and never pulls: no pull is spent for it."""
    clock, old, new = Clock(), make_image(1), make_image(2)
    hub.terms.limit = 100
    hub.add(old, NAME, "latest")
    async with run(clock, tag_refresh_ahead=ON) as mirror:
        await use(hub, mirror, clock)
        hub.add(new, NAME, "latest")
        clock.now += TO_DUE
        await results(mirror, "changed")
        await quiet(hub)
        assert (heads(hub), hub.pulls) == (1, 0)
        assert (await mirror.manifest(NAME, "latest")).body == new.manifest
        assert (heads(hub), hub.pulls) == (1, 1)


async def test_a_changed_tag_is_pulled_at_once_where_no_pull_counts(
    hub: Hub, other: Hub, changing: Changing
) -> None:
    clock, old, new = Clock(), make_image(1), make_image(2)
    other.add(old, NAME, "latest")
    changing.keys["tag_refresh_ahead"] = ON
    changing.upstreams[GHCR] = {"url": other.url}
    async with changing.running(clock) as mirror:
        await manifest(mirror, NAME, GHCR)
        clock.now += 20
        await manifest(mirror, NAME, GHCR)
        other.add(new, NAME, "latest")
        clock.now += TO_DUE
        await other.seen(lambda seen: seen.method == "GET" and seen.reference == new.digest)
        await until(lambda: new.digest in mirror.stored.digests)
        answer = await manifest(mirror, NAME, GHCR)
        assert (answer.body, answer.cache) == (new.manifest, "hit")


async def test_few_pulls_left_keep_a_changed_tag_as_it_was(hub: Hub, run: Run) -> None:
    clock, old, new = Clock(), make_image(1), make_image(2)
    hub.terms.limit = 3
    hub.add(old, NAME, "latest")
    async with run(clock, tag_refresh_ahead=ON) as mirror:
        await use(hub, mirror, clock)
        hub.limits.count(None)  # a pull of another machine
        hub.add(new, NAME, "latest")
        clock.now += TO_DUE
        await results(mirror, "held_back")
        clock.now += 20
        answer = await mirror.manifest(NAME, "latest")
        assert answer.body == old.manifest
        assert answer.headers["Age"] == "66"
        assert (heads(hub), hub.pulls) == (1, 0)


@pytest.mark.parametrize(
    "refusal", [Fault.abuse("manifest", None, retry_after=300), Fault(status=503, times=None)]
)
async def test_an_upstream_that_refuses_is_left_alone_at_once(
    hub: Hub, run: Run, refusal: Fault
) -> None:
    clock = Clock()
    hub_image = make_image(1)
    for tag in SOME:
        hub.add(hub_image, NAME, tag)
    async with run(clock, tag_refresh_ahead=ON) as mirror:
        await use(hub, mirror, clock, SOME)
        hub.faults.add(refusal)
        clock.now += TO_DUE
        await hub.seen(is_head)
        await until(lambda: _all_failed(hub, mirror))
        await quiet(hub)
        assert len(_asked(hub)) <= refresh_ahead._AT_ONCE
        for tag in SOME:  # nothing has changed for clients
            assert (await mirror.manifest(NAME, tag)).cache == "hit"


def _asked(hub: Hub) -> set[str | None]:
    """Return the tags that upstream was asked about."""
    return {seen.reference for seen in hub.requests if is_head(seen)}


async def _all_failed(hub: Hub, mirror: Mirror) -> bool:
    name = "mirror_tags_refreshed_ahead_total"
    return await figure(mirror, name, 'result="failed",') == len(_asked(hub))


@pytest.mark.parametrize("status", [401, 403, 404, 405])
async def test_a_tag_whose_head_is_refused_is_left_to_clients(
    hub: Hub, run: Run, image: Image, status: int
) -> None:
    clock = Clock()
    async with run(clock, tag_refresh_ahead=ON) as mirror:
        await use(hub, mirror, clock)
        hub.faults.add(Fault(kind="manifest", method="HEAD", status=status, times=None))
        clock.now += TO_DUE
        await results(mirror, "undecided")
        await in_use(mirror, 0)
        assert (await mirror.manifest(NAME, "latest")).cache == "hit"
        clock.now += 14
        assert (await mirror.manifest(NAME, "latest")).status == 200
        await in_use(mirror, 0)


async def test_a_silent_upstream_gets_few_heads_and_delays_no_stop(hub: Hub, run: Run) -> None:
    clock, image = Clock(), make_image(1)
    for tag in SOME:
        hub.add(image, NAME, tag)
    async with run(clock, tag_refresh_ahead=ON, answer_timeout=60) as mirror:
        await use(hub, mirror, clock, SOME)
        hub.faults.add(Fault(kind="manifest", method="HEAD", hang=True, times=None))
        clock.now += TO_DUE
        await hub.seen(is_head, refresh_ahead._AT_ONCE)
        await quiet(hub)
        assert (await mirror.manifest(NAME, SOME[0])).cache == "hit"
        began = time.monotonic()
    assert time.monotonic() - began < 5


async def test_heads_that_name_no_digest_are_not_sent(hub: Hub, run: Run) -> None:
    """Two useless HEADs of clients, each followed by a GET, are enough to know the registry."""
    clock, image = Clock(), make_image(1)
    for tag in SOME:
        hub.add(image, NAME, tag)
    hub.faults.add(
        Fault(kind="manifest", method="HEAD", times=None, headers={"Docker-Content-Digest": None})
    )
    async with run(clock, tag_refresh_ahead=ON) as mirror:
        await use(hub, mirror, clock, SOME)
        clock.now += TO_DUE
        await quiet(hub)
        assert heads(hub) == 0


async def test_a_shut_gate_stops_the_refresh(hub: Hub, run: Run, image: Image) -> None:
    clock = Clock()
    hub.terms.limit = 1
    async with run(clock, tag_refresh_ahead=ON) as mirror:
        await use(hub, mirror, clock)
        clock.now += TO_DUE
        await quiet(hub)
        assert heads(hub) == 0


async def test_a_tag_that_has_ended_is_left_to_the_next_client(
    hub: Hub, run: Run, image: Image
) -> None:
    """So after a suspended machine, or a long failure, no backlog of HEADs is sent."""
    clock = Clock()
    async with run(clock, tag_refresh_ahead=ON) as mirror:
        await use(hub, mirror, clock)
        clock.now += 100
        await in_use(mirror, 0)
        assert heads(hub) == 0
        assert (await mirror.manifest(NAME, "latest")).status == 200
        await in_use(mirror, 1)
        clock.now += 46
        await results(mirror, "confirmed")


async def test_a_reload_turns_the_refresh_off_and_on(hub: Hub, changing: Changing) -> None:
    clock, image = Clock(), make_image(1)
    hub.add(image, NAME, "latest")
    changing.keys["tag_refresh_ahead"] = ON
    async with changing.running(clock) as mirror:
        await use(hub, mirror, clock)
        changing.keys["tag_refresh_ahead"] = 0
        assert (await reload(mirror)).changed == ("tag_refresh_ahead",)
        clock.now += TO_DUE
        await in_use(mirror, 0)
        assert heads(hub) == 0
        changing.keys["tag_refresh_ahead"] = ON
        await reload(mirror)
        clock.now += 15
        await use(hub, mirror, clock)
        clock.now += TO_DUE
        await results(mirror, "confirmed")


async def test_no_head_is_sent_about_a_repository_that_rules_refuse_now(
    hub: Hub, changing: Changing
) -> None:
    clock, image = Clock(), make_image(1)
    hub.add(image, NAME, "latest")
    changing.keys["tag_refresh_ahead"] = ON
    async with changing.running(clock) as mirror:
        await use(hub, mirror, clock)
        changing.upstreams["docker.io"]["deny"] = [NAME]
        await reload(mirror)
        clock.now += TO_DUE
        await in_use(mirror, 0)
        assert heads(hub) == 0


@pytest.mark.parametrize(("connections", "most"), [(4, 0), (8, 1), (256, 2)])
async def test_heads_ahead_leave_half_of_the_connections_to_clients(
    hub: Hub, run: Run, connections: int, most: int
) -> None:
    """A quarter of the connections is for small questions: silent HEADs never take all of them."""
    clock, image = Clock(), make_image(1)
    for tag in SOME:
        hub.add(image, NAME, tag)
    upstream = {"url": hub.url, "max_connections": connections}
    async with run(clock, tag_refresh_ahead=ON, upstreams={"docker.io": upstream}) as mirror:
        await use(hub, mirror, clock, SOME)
        hub.faults.add(Fault(kind="manifest", method="HEAD", hang=True, times=None))
        clock.now += TO_DUE
        await until(lambda: heads(hub) >= most)
        await quiet(hub)
        assert heads(hub) == most


async def test_a_registry_that_counts_heads_gets_no_more_of_them(
    hub: Hub, run: Run, image: Image
) -> None:
    """The pulls left fall with each HEAD: a few of them are enough to know that."""
    clock = Clock()
    hub.terms.limit, hub.terms.count_heads = 1000, True
    async with run(clock, tag_refresh_ahead=ON) as mirror:
        await use(hub, mirror, clock)
        clock.now += TO_DUE
        for turn in range(1, 6):
            await results(mirror, "confirmed", turn)
            clock.now += 20
            await mirror.manifest(NAME, "latest")
            clock.now += 26
        await quiet(hub)
        assert heads(hub) == 5


async def test_no_head_is_sent_about_a_tag_that_heads_misname(
    hub: Hub, run: Run, image: Image
) -> None:
    """The digest that HEADs name is not to be had: each change of it would be a pull in vain."""
    clock, lie = Clock(), {"Docker-Content-Digest": make_image(9).digest}
    async with run(clock, tag_refresh_ahead=ON) as mirror:
        await use(hub, mirror, clock)
        hub.faults.add(
            Fault(kind="manifest", method="HEAD", reference="latest", times=None, headers=lie)
        )
        clock.now += TO_DUE
        await hub.seen(is_head)
        await until(lambda: _misled(mirror))
        assert (await mirror.manifest(NAME, "latest")).body == image.manifest
        before = heads(hub)
        for _ in range(4):
            clock.now += 20
            assert (await mirror.manifest(NAME, "latest")).body == image.manifest
            clock.now += 26
            await in_use(mirror, 0)
        assert heads(hub) <= before + 4  # those of clients


async def _misled(mirror: Mirror) -> bool:
    """Whether a HEAD ahead had an effect."""
    name = "mirror_tags_refreshed_ahead_total"
    failed = await figure(mirror, name, 'result="failed",')
    return failed + await figure(mirror, name, 'result="changed",') > 0
