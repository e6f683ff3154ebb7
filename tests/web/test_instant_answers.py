"""A known request is answered before it is parsed, by the state of the mirror at that moment."""

from __future__ import annotations

import re
import tracemalloc
from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.oci.errors import ClientTooFast
from mirror.oci.names import Repository, Tag
from mirror.web.auth.request_rate import RequestRates
from mirror.web.known_requests import KnownRequest, KnownRequests
from mirror.web.observability.access_log import HitLine, Line
from mirror.web.router import ManifestPath
from tests.standin import Hub, Image, make_image
from tests.support.clock import Clock
from tests.support.mirror import Mirror, Run
from tests.support.reloading import Changing, reload
from tests.web.talk import TAG, head, instant, known, manifest, talking
from tests.web.test_client_logins import TOKEN, clients


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("what", ["tag", "digest"])
async def test_a_known_request_for_a_manifest_is_answered_at_once(
    mirror: Mirror, image: Image, capfd: pytest.CaptureFixture[str], what: str, method: str
) -> None:
    request = head(manifest("latest" if what == "tag" else image.digest), method)
    await mirror.pull("library/nginx", "latest", image)
    async with talking(mirror) as talk:
        parsed = await talk.ask(request)
        capfd.readouterr()
        assert await instant(mirror) == 0
        answers = [await talk.ask(request) for _ in range(3)]
        assert await instant(mirror) == 3
    assert len({each.request_id for each in [parsed, *answers]}) == 4
    assert {each.body for each in answers} == {image.manifest if method == "GET" else b""}
    for answer in answers:
        assert answer._replace(request_id="") == parsed._replace(request_id="")


async def test_the_log_line_of_an_instant_answer_is_as_any(
    run: Run, image: Image, capfd: pytest.CaptureFixture[str]
) -> None:
    async with run() as mirror:
        await mirror.pull("library/nginx", "latest", image)
        async with talking(mirror) as talk:
            await talk.ask(head(TAG))
            ids = [(await talk.ask(head(TAG))).request_id for _ in range(2)]
            assert await instant(mirror) == 2
    text = capfd.readouterr().err
    assert all(f" request={each}\n" in text for each in ids)
    lines = [re.sub(r"^\S+| seconds=\S+| request=\S+", "", x) for x in text.splitlines()]
    assert len({line for line in lines if "docker/27.1" in line}) == 1


async def test_a_known_request_for_a_small_blob_is_answered_at_once(
    mirror: Mirror, image: Image
) -> None:
    await mirror.pull("library/nginx", "latest", image)
    request = head(f"/v2/library/nginx/blobs/{image.config.digest}")
    async with talking(mirror) as talk:
        parsed = await talk.ask(request)
        await talk.ask(request)
        answer = await talk.ask(request)
        assert await instant(mirror) == 2
    assert answer._replace(request_id="") == parsed._replace(request_id="")
    assert answer.body == image.config.read()


@pytest.mark.parametrize(
    "headers",
    [
        {"If_None_Match": '"x"'},
        {"Range": "bytes=0-1"},
        {"X_Request_Id": "mine"},
        {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
        {"Authorization": "Basic dXNlcjp3b3Jk"},
        {"X_Forwarded_For": "203.0.113.7"},
        {"Content_Length": "0"},
        {"Accept_Language": "en", "Sec_Fetch_Mode": "cors"},
        {"X_Unheard_Of": "1"},
        {"User_Agent": "x" * 4000},
    ],
    ids="-".join,
)
async def test_a_request_that_is_not_plain_is_always_parsed(
    mirror: Mirror, image: Image, headers: dict[str, str]
) -> None:
    await mirror.pull("library/nginx", "latest", image)
    async with talking(mirror) as talk:
        for _ in range(3):
            assert (await talk.ask(head(TAG, **headers))).status == 200
    assert await instant(mirror) == 0


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
async def test_a_request_that_ends_its_connection_is_always_parsed(
    mirror: Mirror, image: Image, version: bytes
) -> None:
    await mirror.pull("library/nginx", "latest", image)
    request = head(TAG, Connection="close").replace(b"HTTP/1.1", version)
    for _ in range(3):
        async with talking(mirror) as talk:
            assert (await talk.ask(request)).status == 200
            assert await talk.ended()
    assert await instant(mirror) == 0


async def test_requests_behind_each_other_are_answered_in_order(
    mirror: Mirror, image: Image
) -> None:
    await mirror.pull("library/nginx", "latest", image)
    both = [head(TAG, "HEAD"), head(f"/v2/library/nginx/blobs/{image.config.digest}")]
    async with talking(mirror) as talk:
        for request in both:
            await talk.ask(request)
        talk.writer.write(both[0] + both[1] + both[0][:30])
        assert (await talk.read(bodiless=True)).body == b""
        assert (await talk.read()).body == image.config.read()
        talk.writer.write(both[0][30:])
        await talk.read(bodiless=True)
        talk.writer.write(both[0])
        talk.writer.write(both[1])
        assert (await talk.read(bodiless=True)).body == b""
        assert (await talk.read()).body == image.config.read()


async def test_a_known_request_for_a_tag_that_moved_gets_its_new_manifest(
    run: Run, hub: Hub, image: Image
) -> None:
    clock, moved = Clock(), make_image(2)
    async with run(clock, tag_ttl=60) as mirror, talking(mirror) as talk:
        await known(talk, head(TAG))
        assert (await talk.ask(head(TAG))).body == image.manifest
        assert await instant(mirror) == 1
        hub.add(moved, "library/nginx", "latest")
        clock.now += 61
        assert (await talk.ask(head(TAG))).body == moved.manifest
        assert await instant(mirror) == 1
        assert (await talk.ask(head(TAG))).body == moved.manifest
        assert await instant(mirror) == 2


async def test_content_that_is_gone_is_no_instant_answer(
    mirror: Mirror, hub: Hub, image: Image
) -> None:
    path = head(manifest(image.digest))
    async with talking(mirror) as talk:
        await known(talk, path)
        mirror.stored.unlink(image.digest, "library/nginx")
        hub.remove("library/nginx", image.digest)
        assert (await talk.ask(path)).status == 404
        assert await instant(mirror) == 0


async def test_a_reload_decides_about_known_requests(changing: Changing, image: Image) -> None:
    async with changing.running() as mirror, talking(mirror) as talk:
        await known(talk, head(TAG))
        changing.upstreams["docker.io"]["deny"] = ["library/*"]
        await reload(mirror)
        assert (await talk.ask(head(TAG))).status == 403
        del changing.upstreams["docker.io"]["deny"]
        changing.keys = {"clients": clients(), "challenge": True}
        await reload(mirror)
        assert (await talk.ask(head(TAG))).status == 401
        logged_in = head(TAG, Authorization=f"Bearer {TOKEN}")
        assert (await talk.ask(logged_in)).status == 200
        changing.keys = {}
        await reload(mirror)
        await known(talk, head(TAG))
        assert await instant(mirror) == 1


async def test_known_requests_count_in_their_clients_rate(run: Run, image: Image) -> None:
    async with run(client_rate=0.2) as mirror, talking(mirror) as talk:  # two at once
        statuses = [(await talk.ask(head(TAG))).status for _ in range(4)]
        assert statuses[:2] == [200, 200]
        assert statuses[-1] == 429


def of_number(number: int, length: int) -> tuple[bytes, KnownRequest]:
    """A request with a head of this length, and objects of its own."""
    name = f"n{number:05d}".ljust(length // 2, "n")
    agent = f"{number:05d}".ljust(length - length // 2, "a")
    route = ManifestPath(Repository("docker.io", name), "docker.io", Tag("latest"))
    line = Line(1, "c", "-", "GET", name, 200, 7, 2, "hit", "manifest", name, agent, "", "id")
    return f"{name}{agent}".encode(), KnownRequest(length, route, "GET", "h", line, HitLine(line))


@pytest.mark.parametrize("length", [50, 400, 2000])
def test_known_requests_take_no_more_memory_than_their_room(length: int) -> None:
    room = 1024 * 1024
    table = KnownRequests(room)
    tracemalloc.start()
    try:
        for number in range(2000):
            table.add(*of_number(number, length))
        assert table.get(of_number(0, length)[0]) is None
        assert table.get(of_number(1999, length)[0]) is not None
        full, _ = tracemalloc.get_traced_memory()
        table.clear()
        empty, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.5 * room < full - empty < 1.3 * room


def test_requests_with_a_long_head_stay_unknown() -> None:
    table, (head, known) = KnownRequests(), of_number(1, 5000)
    table.add(head, known)
    assert len(table) == 0
    assert table.get(head) is None


TEXT = st.text(max_size=20)


@given(TEXT, TEXT, TEXT, st.integers(0, 10**12), st.floats(0, 1e4), st.floats(0, 4e9))
def test_the_line_of_a_hit_is_rendered_as_any_line(
    target: str, agent: str, client: str, sent: int, seconds: float, at: float
) -> None:
    first = Line(1, "a", "-", "GET", target, 200, 7, 2, "hit", "blob", "r", agent, "", "id")
    line = first._replace(at=at, client=client, sent=sent, seconds=seconds, request="other")
    hit = HitLine(first)
    assert hit.text(at, client, sent, seconds, "other") == line.text()
    assert hit.json(at, client, sent, seconds, "other") == line.json()


@given(st.floats(0.01, 1000), st.lists(st.floats(0, 5), max_size=60))
def test_a_rate_says_beforehand_what_it_allows(rate: float, pauses: list[float]) -> None:
    clock = Clock()
    rates = RequestRates(rate, clock)
    for pause in pauses:
        clock.now += pause
        allowed = rates.allows("a")
        with nullcontext() if allowed else pytest.raises(ClientTooFast):
            rates.take("a")
