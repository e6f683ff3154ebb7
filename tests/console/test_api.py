"""The API: the knowledge and the actions of page and commands, over HTTP."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from aiohttp import encode_basic_auth

from tests.standin import Fault, Hub, Image, make_image
from tests.support.mirror import Got, Mirror, Run
from tests.support.waiting import until

TOKEN = "a-token-of-more-than-16"
OPERATORS = {"clients": {"ci": {"token": TOKEN}}, "operators": "ci"}
CI = encode_basic_auth("ci", TOKEN)
APP = "docker.io/library/nginx"


def document(got: Got, status: int = 200) -> Any:  # noqa: ANN401 - any JSON
    """Return the document of an answer with a status."""
    assert got.status == status, got.body
    kind = "application/json" if status == 200 else "application/problem+json"
    assert got.headers["Content-Type"] == kind
    packed = got.headers.get("Content-Encoding") == "gzip"
    found = json.loads(gzip.decompress(got.body) if packed else got.body)
    if status != 200:
        assert found["status"] == status
        assert found["title"]
        assert found["detail"]
    return found


async def test_what_the_commands_know_is_known_here(mirror: Mirror, image: Image) -> None:
    await mirror.pull("library/nginx", "latest", image)
    status = document(await mirror.ask("/api/v1/status"))
    assert status["disk"]["blobs"] == len(image.blobs)
    assert document(await mirror.ask("/api/v1/budget"))["accounts"][0]["upstream"] == "docker.io"
    usage = document(await mirror.ask("/api/v1/usage"))
    assert [row["repository"] for row in usage["repositories"]] == [APP]
    images = document(await mirror.ask("/api/v1/images"))
    assert [row["reference"] for row in images["images"]] == [f"{APP}:latest"]
    shown = document(await mirror.ask(f"/api/v1/images/{APP}:latest"))
    assert shown["digest"] == image.digest
    encoded = await mirror.ask(f"/api/v1/images/{APP.replace('/', '%2F')}%3Alatest")
    assert document(encoded) == shown
    assert document(await mirror.ask(f"/api/v1/images/{APP}"))["tags"][0]["tag"] == "latest"
    assert document(await mirror.ask("/api/v1/history?span=hour"))["step"] == 60
    assert document(await mirror.ask("/api/v1/errors?outcome=any"))["requests"]
    assert document(await mirror.ask("/api/v1/fetches"))["fetches"] == []
    assert "images" in document(await mirror.ask("/api/v1/top?span=week"))


async def test_an_image_is_purged_by_an_operator_and_the_log_says_by_whom(
    run: Run, image: Image, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with run(**OPERATORS) as mirror:
        await mirror.pull("library/nginx", "latest", image)
        path = f"/api/v1/images/{APP}:latest/purge"
        would = document(await mirror.ask(f"{path}?dry_run=true", "POST", Authorization=CI))
        assert would["dry"]
        assert would["tags"] == 1
        document(await mirror.ask(path, "POST"), 401)
        purged = document(await mirror.ask(path, "POST", Authorization=CI))
        assert purged == {**would, "dry": False}
        document(await mirror.ask(path, "POST", Authorization=CI), 404)
        document(await mirror.ask(f"/api/v1/images/{APP}:latest", Authorization=CI), 404)
        metrics = (await mirror.ask("/metrics")).body.decode()
        assert 'mirror_operator_actions_total{action="purge"} 2.0' in metrics
    assert f"order of ci at 127.0.0.1: purge {APP}:latest" in caplog.text


async def test_an_image_is_pinned_and_unpinned(run: Run, image: Image) -> None:
    async with run(**OPERATORS) as mirror:
        await mirror.pull("library/nginx", "latest", image)
        path = f"/api/v1/images/{APP}:latest"
        pinned = document(await mirror.ask(f"{path}/pin", "POST", Authorization=CI))
        assert pinned["images"][0]["digest"] == image.digest
        assert document(await mirror.ask(path, Authorization=CI))["pinned"]
        document(await mirror.ask(f"{path}/purge", "POST", Authorization=CI), 409)
        document(await mirror.ask(f"{path}/unpin", "POST", Authorization=CI))
        assert not document(await mirror.ask(path, Authorization=CI))["pinned"]
        none = f"/api/v1/images/{APP}:none/pin"
        document(await mirror.ask(none, "POST", Authorization=CI), 404)


async def test_a_tag_is_refreshed(hub: Hub, run: Run, image: Image) -> None:
    async with run(**OPERATORS) as mirror:
        await mirror.pull("library/nginx", "latest", image)
        newer = make_image(2, [20_000])
        hub.add(newer, "library/nginx", "latest")
        path = f"/api/v1/images/{APP}:latest/refresh"
        got = document(await mirror.ask(path, "POST", Authorization=CI))["images"][0]
        assert (got["before"], got["digest"], got["changed"]) == (image.digest, newer.digest, True)
        missing = f"/api/v1/images/{APP}:none/refresh"
        assert document(await mirror.ask(missing, "POST", Authorization=CI), 404)["detail"]


async def test_without_operators_an_action_names_setting_and_command(mirror: Mirror) -> None:
    got = await mirror.ask(f"/api/v1/images/{APP}:latest/purge", "POST")
    detail = document(got, 403)["detail"]
    assert "operators" in detail
    assert f"mirror purge {APP}:latest" in detail


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/history?span=century", ["span is 'century'", "'hour'", "'year'"]),
        ("/history?step=61", ["step is '61'", "60"]),
        ("/history?nothing=1", ["'nothing'", "span", "step", "upstream"]),
        ("/history?kind=history", ["'kind'", "span"]),
        ("/history?span=day&span=week", ["'span' is given 2 times"]),
        ("/images?limit=0", ["limit is '0'", "more than 0"]),
        ("/images?limit=1001", ["limit is '1001'", "at most 1000"]),
        ("/images?limit=many", ["limit is 'many'", "a whole number"]),
        ("/images?sort=colour", ["sort is 'colour'", "'bytes'"]),
        ("/images?after=%00", ["invalid repository name"]),
        ("/images?pattern=" + "a" * 600, ["pattern", "at most 512 characters"]),
        ("/usage?after=nothing", ["'nothing'", "begin at its first page"]),
        ("/errors?limit=1000", ["limit is '1000'", "at most 200"]),
        ("/errors?outcome=hit", ["outcome is 'hit'", "'stale'"]),
        ("/images/docker.io/UPPER/case:1", ["invalid repository name"]),
        ("/images/docker.io/library/app:%0a", ["invalid tag"]),
        ("/images/%ff", ["invalid repository name"]),
        ("/status?" + "&".join(f"a{n}=1" for n in range(101)), ["at most 100 fields"]),
        ("/status?a=%ff", ["UTF-8"]),
    ],
)
async def test_an_invalid_request_names_the_allowed_values(
    mirror: Mirror, path: str, words: list[str]
) -> None:
    detail = document(await mirror.ask(f"/api/v1{path}"), 400)["detail"]
    assert [word for word in words if word not in detail] == [], detail


@pytest.mark.parametrize("path", ["/", "/statuses", "/images/", "", "/../status", "/status/"])
async def test_an_unknown_path_names_the_known_ones(mirror: Mirror, path: str) -> None:
    got = await mirror.ask(f"/api/v1{path}")
    assert got.status in (400, 404)
    assert got.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/status", "GET, HEAD"),
        ("DELETE", "/images/docker.io/library/app:1", "GET, HEAD"),
        ("POST", "/images/docker.io/library/app:1", "GET, HEAD"),
        ("POST", "/openapi.json", "GET, HEAD"),
        ("OPTIONS", "/status", "GET, HEAD"),
        ("GET", "/warm", "POST"),
        ("PURGE", "/images/docker.io/library/app:1/purge", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_names_the_allowed_ones(
    run: Run, method: str, path: str, allowed: str
) -> None:
    async with run(**OPERATORS) as mirror:
        got = await mirror.ask(f"/api/v1{path}", method, Authorization=CI)
        document(got, 405)
        assert got.headers["Allow"] == allowed


@pytest.mark.parametrize("step", [60, 600, 3600, 86_400])
async def test_each_step_of_the_history_can_be_asked_for(mirror: Mirror, step: int) -> None:
    found = document(await mirror.ask(f"/api/v1/history?span=hour&step={step}"))
    assert found["step"] == step


@pytest.mark.parametrize("body", ["", "{}", '{"platforms": ["linux/amd64"], "dry_run": false}'])
async def test_an_image_is_warmed_at_its_own_path(run: Run, image: Image, body: str) -> None:
    async with run(**OPERATORS) as mirror:
        got = await posted(mirror, f"/images/{APP}:latest/warm", body)
        assert (got.status, got.headers["Content-Type"]) == (200, "application/jsonl")
        last = json.loads(got.body.splitlines()[-1])
        assert (last["kind"], last["failed"]) == ("warmed", 0)
        assert image.digest in mirror.stored.digests
        wrong = await posted(mirror, f"/images/{APP}:latest/warm", {"images": ["a:1"]})
        assert "'images' here" in document(wrong, 400)["detail"]


async def test_images_are_warmed_by_an_operator(run: Run, image: Image) -> None:
    order = {"images": [f"{APP}:latest"], "platforms": ["linux/amd64"]}
    async with run(**OPERATORS) as mirror:
        assert (await posted(mirror, "/warm", order, login="")).status == 401
        got = await posted(mirror, "/warm", order)
        assert (got.status, got.headers["Content-Type"]) == (200, "application/jsonl")
        records = [json.loads(line) for line in got.body.splitlines()]
        assert records[-1]["kind"] == "warmed"
        assert records[-1]["failed"] == 0
        assert (await mirror.manifest("library/nginx", "latest")).cache == "hit"
        for wrong, words in (
            ({}, "images: expected a value"),
            ({"images": []}, "images is '[]': expected at least 1"),
            ({"images": ["app:1"], "leave": -1}, "leave is '-1': expected at least 0"),
            (
                {"images": ["app:1"], "target": "a"},
                "'target' here; known are: dry_run",
            ),
            ([], "a JSON object"),
            ("{", "a JSON object"),
        ):
            assert words in document(await posted(mirror, "/warm", wrong), 400)["detail"]


async def test_the_store_is_tidied_and_verified(run: Run, image: Image) -> None:
    async with run(**OPERATORS) as mirror:
        await mirror.pull("library/nginx", "latest", image)
        got = document(await mirror.ask("/api/v1/gc?dry_run=true", "POST", Authorization=CI))
        assert (got["evicted"], got["dry"]) == (0, True)
        records = (await posted(mirror, "/verify", {"percent": 100, "dry_run": True})).body
        assert json.loads(records.splitlines()[-1])["blobs"] == len(image.blobs) + 1
        assert "percent" in document(await posted(mirror, "/verify", {"percent": 0}), 400)["detail"]


async def test_a_warming_ends_with_its_connection(hub: Hub, run: Run, image: Image) -> None:
    hub.faults.add(Fault(kind="blob", method="GET", hang=True, times=None))
    async with run(**OPERATORS, abandon_after=0) as mirror:
        order = json.dumps({"images": [f"{APP}:latest"], "platforms": ["linux/amd64"]})
        headers = {"Authorization": CI}
        url = f"{mirror.url}/api/v1/warm"
        async with mirror.session.post(url, data=order, headers=headers) as response:
            await response.content.readline()
            await until(lambda: len(mirror.daemon.fetches) > 0)
        await mirror.settled()


async def posted(mirror: Mirror, path: str, body: object, login: str = CI) -> Got:
    """Post a JSON body, or a text as it stands."""
    data = body if isinstance(body, str) else json.dumps(body)
    headers = {"Authorization": login} if login else {}
    url = f"{mirror.url}/api/v1{path}"
    async with mirror.session.post(url, data=data, headers=headers) as response:
        return Got(response.status, response.headers, await response.read())


async def test_lists_come_in_pages_that_lead_on(hub: Hub, mirror: Mirror) -> None:
    for number in range(5):
        image = make_image(number, [10_000 + number])
        hub.add(image, f"library/app{number}", "latest")
        await mirror.pull(f"library/app{number}", "latest", image)
    for start, rows, name in (
        ("/api/v1/images?limit=2&sort=bytes", "images", "reference"),
        ("/api/v1/usage?limit=2", "repositories", "repository"),
    ):
        found, path = list[str](), start
        while path:
            got = await mirror.ask(path)
            found += [row[name] for row in document(got)[rows]]
            link = got.headers.get("Link", "")
            path = link.partition("<")[2].partition(">")[0]
            assert not link or link.endswith('; rel="next"')
        assert len(found) == len(set(found)) == 5


async def test_an_unknown_path_is_told_where_the_paths_are_described(mirror: Mirror) -> None:
    detail = document(await mirror.ask("/api/v1/nothing"), 404)["detail"]
    assert detail.endswith(": /api/v1/openapi.json describes them")


async def test_an_unchanged_list_is_not_sent_again(mirror: Mirror, image: Image) -> None:
    await mirror.pull("library/nginx", "latest", image)
    first = await mirror.ask("/api/v1/images")
    etag = first.headers["ETag"]
    assert etag.startswith('W/"')
    for known in (etag, f'"other", {etag}', etag.removeprefix("W/"), "*"):
        again = await mirror.ask("/api/v1/images", If_None_Match=known)
        assert (again.status, again.body) == (304, b"")
        assert again.headers["ETag"] == etag
    assert (await mirror.ask("/api/v1/images", If_None_Match='W/"other"')).status == 200
    head = await mirror.ask("/api/v1/images", "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == first.headers["Content-Length"]


async def test_long_answers_are_compressed_for_clients_that_take_it(mirror: Mirror) -> None:
    plain = await mirror.ask("/api/v1/openapi.json", Accept_Encoding="identity")
    assert "Content-Encoding" not in plain.headers
    packed = await mirror.ask("/api/v1/openapi.json", Accept_Encoding="br;q=1, gzip;q=0.5")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.headers["Vary"] == "Accept-Encoding"
    assert gzip.decompress(packed.body) == plain.body
    for refused in ("gzip;q=0", "br", "gzip;q=0.000, *"):
        got = await mirror.ask("/api/v1/openapi.json", Accept_Encoding=refused)
        assert got.body == plain.body
