"""Upstream's HEADs: they save pulls, and decide nothing where they refuse or say too little."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from typing import Any

import pytest

from mirror.oci.digest import Digest
from tests.conftest import Got, Mirror, Run
from tests.standin import Fault, Hub, Image, make_image, make_index

REPOSITORY = "library/nginx"
OTHER = "sha256:" + "0" * 64


def head(**fault: object) -> Fault:
    """Let every HEAD of a manifest go wrong."""
    return Fault(kind="manifest", method="HEAD", times=None, **fault)  # type: ignore[arg-type]


def headers(**changed: str | None) -> Fault:
    """Let every HEAD of a manifest have other headers."""
    return head(headers={name.replace("_", "-"): value for name, value in changed.items()})


# What says nothing at all, so that the GET decides.
REFUSED = {
    **{str(status): head(status=status) for status in (400, 401, 403, 404, 405, 406, 410)},
    "204": head(status=204),
    "a 404 page": replace(Fault.page("manifest", None, 404), method="HEAD"),
    "a page": replace(Fault.page("manifest", None), method="HEAD", body=None),
    "a redirect loop": head(redirect_loop=True),
    "no digest": headers(Docker_Content_Digest=None),
    "an empty digest": headers(Docker_Content_Digest=""),
    "garbage for a digest": headers(Docker_Content_Digest="W/latest"),
    "an unknown algorithm": headers(Docker_Content_Digest="md5:" + "a" * 32),
    "half a digest": headers(Docker_Content_Digest="sha256:abc"),
}
# What names a digest, and not all else that a client's HEAD is to be told.
POOR = {
    "no type": headers(Content_Type=None),
    "an empty type": headers(Content_Type=""),
    "a page's type": headers(Content_Type="text/html"),
    "JSON": headers(Content_Type="application/json"),
    "no length": head(chunked=True, headers={"Transfer-Encoding": "chunked"}),
    "no bytes": head(content_length=0),
    "a compressed length": headers(Content_Encoding="gzip"),
}
# What answers nothing.
FAILING = {
    "500": head(status=500),
    "501": head(status=501),
    "503": head(status=503),
    "429": head(status=429, headers={"Content-Type": "text/plain", "Retry-After": "60"}),
    "dropped": head(drop=True),
}


def kept_back(hub: Hub) -> dict[str, object]:
    """Keep one pull for other repositories."""
    terms = {"url": hub.url, "reserve": 1, "reserved_for": ["team/*"]}
    return {"docker.io": terms}


def right(got: Got, image: Image, *, head: bool = False) -> None:
    """Check that this is all that a client needs to know of an image's manifest."""
    assert got.status == 200
    assert got.headers["Docker-Content-Digest"] == image.digest
    assert got.headers["Content-Type"] == image.media_type
    assert got.headers["Content-Length"] == str(image.size)
    assert got.body == (b"" if head else image.manifest)


@pytest.mark.parametrize("by", ["tag", "digest"])
@pytest.mark.parametrize("fault", (REFUSED | POOR | FAILING).values(), ids=REFUSED | POOR | FAILING)
async def test_a_client_that_asks_head_first_is_answered_whatever_upstreams_head_says(
    hub: Hub, mirror: Mirror, image: Image, fault: Fault, by: str
) -> None:
    """As containerd does; the pull is of use to the GET that follows."""
    hub.faults.add(fault)
    reference = "latest" if by == "tag" else image.digest
    right(await mirror.manifest(REPOSITORY, reference, "HEAD"), image, head=True)
    right(await mirror.manifest(REPOSITORY, image.digest), image)
    right(await mirror.manifest(REPOSITORY, reference), image)
    assert hub.pulls == 1


@pytest.mark.parametrize("fault", (REFUSED | POOR | FAILING).values(), ids=REFUSED | POOR | FAILING)
async def test_a_client_that_asks_get_first_is_answered_whatever_upstreams_head_says(
    hub: Hub, mirror: Mirror, image: Image, fault: Fault
) -> None:
    """As skopeo and podman do."""
    hub.faults.add(fault)
    right(await mirror.manifest(REPOSITORY, "latest"), image)
    assert hub.pulls == 1


@pytest.mark.parametrize("fault", (REFUSED | FAILING).values(), ids=REFUSED | FAILING)
async def test_ten_clients_at_once_cost_one_pull_where_heads_are_of_no_use(
    hub: Hub, mirror: Mirror, image: Image, fault: Fault
) -> None:
    hub.faults.add(fault)
    methods = ["HEAD", "GET"] * 5
    asked = (mirror.manifest(REPOSITORY, "latest", method) for method in methods)
    for method, got in zip(methods, await asyncio.gather(*asked), strict=True):
        right(got, image, head=method == "HEAD")
    assert hub.pulls == 1


@pytest.mark.parametrize("fault", REFUSED.values(), ids=REFUSED)
async def test_a_tag_that_moved_is_seen_though_heads_are_refused(
    hub: Hub, run: Run, image: Image, fault: Fault
) -> None:
    moved = make_image(2)
    async with run(tag_ttl=0) as mirror:
        right(await mirror.manifest(REPOSITORY, "latest"), image)
        hub.faults.add(fault)
        right(await mirror.manifest(REPOSITORY, "latest", "HEAD"), image, head=True)
        hub.tag(REPOSITORY, "latest", moved)
        right(await mirror.manifest(REPOSITORY, "latest", "HEAD"), moved, head=True)
        right(await mirror.manifest(REPOSITORY, moved.digest), moved)


@pytest.mark.parametrize("fault", POOR.values(), ids=POOR)
async def test_a_digest_is_all_that_a_kept_tag_needs(
    hub: Hub, run: Run, image: Image, fault: Fault
) -> None:
    async with run(tag_ttl=0) as mirror:
        right(await mirror.manifest(REPOSITORY, "latest"), image)
        hub.faults.add(fault)
        for method in ("HEAD", "GET"):
            got = await mirror.manifest(REPOSITORY, "latest", method)
            right(got, image, head=method == "HEAD")
            assert got.cache == "fwd=stale; detail=revalidated"
    assert hub.pulls == 1


@pytest.mark.parametrize("fault", FAILING.values(), ids=FAILING)
async def test_a_kept_tag_is_served_stale_where_heads_fail(
    hub: Hub, run: Run, image: Image, fault: Fault
) -> None:
    async with run(tag_ttl=0) as mirror:
        right(await mirror.manifest(REPOSITORY, "latest"), image)
        hub.faults.add(fault)
        for method in ("HEAD", "GET"):
            got = await mirror.manifest(REPOSITORY, "latest", method)
            right(got, image, head=method == "HEAD")
            assert got.headers["Warning"].startswith("299 ")
            assert got.headers["Age"] == "0"
    assert hub.pulls == 1


@pytest.mark.parametrize("name", ["500", "dropped", "hanging"])
async def test_a_tag_that_moved_is_seen_within_fifteen_seconds_though_heads_fail_for_ever(
    hub: Hub, run: Run, image: Image, name: str
) -> None:
    """A GET decides where the second HEAD in a row gets no answer."""
    fault = (FAILING | {"hanging": head(hang=True)})[name]
    moved = make_image(2)
    async with run(tag_ttl=0, stale_after=1) as mirror:
        right(await mirror.manifest(REPOSITORY, "latest"), image)
        hub.faults.add(fault)
        hub.tag(REPOSITORY, "latest", moved)
        began = time.monotonic()
        async with asyncio.timeout(15):
            while (await mirror.manifest(REPOSITORY, "latest")).body != moved.manifest:
                pass
        assert time.monotonic() - began < 15
    assert hub.pulls == 2


async def test_a_hanging_head_leaves_time_for_the_get(hub: Hub, run: Run, image: Image) -> None:
    hub.faults.add(head(hang=True))
    async with run(answer_timeout=3) as mirror:
        began = time.monotonic()
        right(await mirror.manifest(REPOSITORY, "latest", "HEAD"), image, head=True)
        assert time.monotonic() - began < 3


@pytest.mark.parametrize("name", ["404", "405", "no digest"])
async def test_no_pull_is_spent_on_a_kept_tag_where_few_are_left(
    hub: Hub, run: Run, image: Image, name: str
) -> None:
    hub.terms.limit = 2
    async with run(tag_ttl=0, upstreams=kept_back(hub)) as mirror:
        right(await mirror.manifest(REPOSITORY, "latest"), image)
        hub.faults.add(REFUSED[name])
        got = await mirror.manifest(REPOSITORY, "latest")
        right(got, image)
        assert got.cache == "hit; detail=stale"
    assert hub.pulls == 1


@pytest.mark.parametrize("by", ["tag", "digest"])
async def test_a_heads_404_stands_where_no_pull_may_be_spent(
    hub: Hub, run: Run, image: Image, by: str
) -> None:
    hub.terms.limit = 2
    missing = "sha256-" + "a" * 64 + ".sig" if by == "tag" else OTHER
    async with run(upstreams=kept_back(hub)) as mirror:
        right(await mirror.manifest(REPOSITORY, "latest"), image)
        for method in ("HEAD", "GET"):
            assert (await mirror.manifest(REPOSITORY, missing, method)).status == 404


async def test_a_spent_pull_limit_is_a_429_whatever_heads_say(hub: Hub, run: Run) -> None:
    hub.terms.limit, hub.terms.limit_heads = 1, True
    images = [make_image(number) for number in range(3)]
    for number, image in enumerate(images):
        hub.add(image, REPOSITORY, str(number))
    async with run() as mirror:
        right(await mirror.manifest(REPOSITORY, "0"), images[0])
        for method in ("HEAD", "GET"):
            got = await mirror.manifest(REPOSITORY, "1", method)
            assert got.status == 429
            assert int(got.headers["Retry-After"]) > 5


@pytest.mark.parametrize(
    "written",
    ['"{}"', " {} ", '  "{}" ', "{upper}", "'{}'"],
    ids=["quoted", "spaced", "both", "capitals", "apostrophes"],
)
async def test_a_digest_is_read_however_it_is_written(
    hub: Hub, run: Run, image: Image, written: str
) -> None:
    text = written.format(image.digest, upper=image.digest.upper())
    named = {"Docker-Content-Digest": text}
    hub.faults.add(Fault(kind="manifest", headers=named, times=None))
    async with run(tag_ttl=0) as mirror:
        right(await mirror.manifest(REPOSITORY, "latest", "HEAD"), image, head=True)
        assert hub.pulls == 0
        right(await mirror.manifest(REPOSITORY, image.digest), image)
        right(await mirror.manifest(REPOSITORY, "latest"), image)
    assert hub.pulls == 1


async def test_a_digest_in_an_unknown_algorithm_is_as_good_as_none(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    named = {"Docker-Content-Digest": "blake3:" + "a" * 64}
    hub.faults.add(Fault(kind="manifest", headers=named, times=None))
    for reference in ("latest", image.digest):
        right(await mirror.manifest(REPOSITORY, reference), image)
    assert hub.pulls == 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_manifest_by_digest_is_what_was_asked_for_whatever_upstream_calls_it(
    hub: Hub, mirror: Mirror, image: Image, method: str
) -> None:
    named = {"Docker-Content-Digest": str(Digest.of(image.manifest, "sha512"))}
    hub.faults.add(Fault(kind="manifest", headers=named, times=None))
    got = await mirror.manifest(REPOSITORY, image.digest, method)
    right(got, image, head=method == "HEAD")


async def test_a_tag_whose_digest_upstream_does_not_have_is_fetched_by_tag(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    """A copy of the registry that has not caught up, or a HEAD that names another digest."""
    hub.faults.add(headers(Docker_Content_Digest=OTHER))
    right(await mirror.manifest(REPOSITORY, "latest"), image)
    assert hub.pulls == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 500, 503])
@pytest.mark.parametrize("kept", [True, False])
async def test_a_tag_is_had_though_upstream_refuses_it_by_digest(
    hub: Hub, run: Run, image: Image, status: int, kept: bool
) -> None:
    """A client without a mirror need not have asked by digest."""
    async with run(tag_ttl=0) as mirror:
        if kept:
            hub.tag(REPOSITORY, "latest", make_image(2))
            await mirror.manifest(REPOSITORY, "latest")
            hub.tag(REPOSITORY, "latest", image)
        refused = Fault(kind="manifest", reference=image.digest, status=status, times=None)
        hub.faults.add(refused)
        right(await mirror.manifest(REPOSITORY, "latest"), image)
        right(await mirror.manifest(REPOSITORY, image.digest), image)
    assert hub.count(reference="latest", method="GET", counted=True) == 1


async def test_dockerd_keeps_the_tag_it_had_where_upstream_does_not_have_the_new_manifest(
    hub: Hub, run: Run, image: Image
) -> None:
    async with run(tag_ttl=0) as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
        hub.tag(REPOSITORY, "latest", moved := make_image(2))
        hub.faults.add(Fault(kind="manifest", reference=moved.digest, status=404))
        named = (await mirror.manifest(REPOSITORY, "latest", "HEAD")).headers
        assert named["Docker-Content-Digest"] == moved.digest
        assert (await mirror.manifest(REPOSITORY, moved.digest)).status == 404
        right(await mirror.manifest(REPOSITORY, "latest", "HEAD"), image, head=True)


async def test_a_registry_without_heads_is_not_asked_for_each_time(
    hub: Hub, mirror: Mirror
) -> None:
    """It is found out by two that were refused and made good by a GET."""
    images = [make_image(number) for number in range(8)]
    for number, image in enumerate(images):
        hub.add(image, REPOSITORY, str(number))
    hub.faults.add(head(status=405))
    for number, image in enumerate(images):
        right(await mirror.manifest(REPOSITORY, str(number), "HEAD"), image, head=True)
    assert hub.count(kind="manifest", method="HEAD", status=405) == 2
    assert hub.pulls == len(images)


async def test_a_kept_tag_is_asked_for_by_head_where_a_get_is_counted(
    hub: Hub, run: Run, image: Image
) -> None:
    """Whatever HEADs were worth lately: a pull is worth more."""
    hub.terms.limit = 100
    for number in range(2):
        hub.add(make_image(number), REPOSITORY, str(number))
    async with run(tag_ttl=0) as mirror:
        right(await mirror.manifest(REPOSITORY, "latest"), image)
        hub.faults.add(replace(head(status=405), times=2))
        for number in range(2):
            await mirror.manifest(REPOSITORY, str(number))
        pulls = hub.pulls
        for _ in range(3):
            right(await mirror.manifest(REPOSITORY, "latest"), image)
    assert hub.pulls == pulls


async def test_a_platform_of_an_index_is_had_though_its_head_is_refused(
    hub: Hub, mirror: Mirror
) -> None:
    images = [make_image(3, architecture="amd64"), make_image(4, architecture="arm64")]
    index = make_index(images, media="docker")
    hub.add(index, REPOSITORY, "multi")
    hub.faults.add(head(status=403))
    assert (await mirror.manifest(REPOSITORY, "multi")).body == index.manifest
    for image in images:
        right(await mirror.manifest(REPOSITORY, image.digest, "HEAD"), image, head=True)
        right(await mirror.manifest(REPOSITORY, image.digest), image)
    assert hub.pulls == 3


async def test_a_restart_forgets_what_heads_were_worth(hub: Hub, run: Run, image: Image) -> None:
    hub.faults.add(replace(head(status=405), times=1))
    async with run() as mirror:
        right(await mirror.manifest(REPOSITORY, "latest"), image)
    async with run(tag_ttl=0) as mirror:
        got = await mirror.manifest(REPOSITORY, "latest")
        assert got.cache == "fwd=stale; detail=revalidated"
    assert hub.pulls == 1


async def test_a_client_that_leaves_in_between_costs_no_second_pull(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    hub.faults.add(head(status=405))
    slow = asyncio.Event()
    hub.faults.add(Fault(kind="manifest", method="GET", hang=True, until=slow))
    leaving = asyncio.create_task(mirror.manifest(REPOSITORY, "latest", "HEAD"))
    await hub.seen(lambda seen: seen.kind == "manifest" and seen.method == "GET")
    leaving.cancel()
    back = asyncio.create_task(mirror.manifest(REPOSITORY, "latest", "HEAD"))
    await hub.seen(lambda seen: seen.kind == "manifest" and seen.method == "HEAD")
    slow.set()
    right(await back, image, head=True)
    assert hub.count(kind="manifest", method="GET") == 1


async def test_if_none_match_is_answered_though_heads_are_refused(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    hub.faults.add(head(status=404))
    path = f"/v2/{REPOSITORY}/manifests/latest"
    assert (await mirror.ask(path, If_None_Match=f'"{image.digest}"')).status == 304
    right(await mirror.ask(path, If_None_Match='"sha256:other"'), image)
    assert hub.pulls == 1


async def test_a_tag_is_not_kept_back_by_a_get_that_takes_long(
    hub: Hub, run: Run, image: Image
) -> None:
    """Who waited too long has the stale one; the GET goes on, and counts for the tag."""
    slow = asyncio.Event()
    async with run(tag_ttl=2, stale_after=0.2) as mirror:
        right(await mirror.manifest(REPOSITORY, "latest"), image)
        hub.faults.add(head(status=405))
        hub.faults.add(Fault(kind="manifest", method="GET", hang=True, until=slow))
        hub.tag(REPOSITORY, "latest", moved := make_image(2))
        async with asyncio.timeout(5):
            while (got := await mirror.manifest(REPOSITORY, "latest")).cache == "hit":
                pass
        right(got, image)
        assert got.cache == "hit; detail=stale"
        slow.set()
        async with asyncio.timeout(2):
            while (got := await mirror.manifest(REPOSITORY, "latest")).body != moved.manifest:
                pass
        assert got.cache == "hit"
    assert hub.pulls == 2


async def test_content_of_one_upstream_is_confirmed_by_get_in_another_repository(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    hub.add(image, "library/other", "latest")
    right(await mirror.manifest(REPOSITORY, image.digest), image)
    hub.faults.add(head(status=405))
    right(await mirror.manifest("library/other", image.digest), image)
    refused = await mirror.manifest("library/third", image.digest)
    assert json.loads(refused.body)["errors"][0]["code"] in ("DENIED", "MANIFEST_UNKNOWN")
    assert hub.pulls == 2


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 403},
        {"status": 404},
        {"status": 406},
        {"status": 503},
        {"drop": True},
        {"body": b"<html>", "headers": {"Content-Type": "text/html"}},
    ],
    ids=str,
)
async def test_a_tag_is_had_where_its_manifest_is_refused_by_digest(
    hub: Hub, run: Run, image: Image, fault: dict[str, Any]
) -> None:
    refused = Fault(kind="manifest", reference=image.digest, method="GET", times=None, **fault)
    hub.faults.add(refused)
    async with run(tag_ttl=0) as mirror:
        got = await mirror.manifest(REPOSITORY, "latest")
        assert got.body == image.manifest
        newer = make_image(9, [1000])
        hub.faults.clear()
        hub.faults.add(replace(refused, reference=newer.digest))
        hub.tag(REPOSITORY, "latest", newer)
        assert (await mirror.manifest(REPOSITORY, "latest")).body == newer.manifest
    assert hub.pulls == (4 if "body" in fault else 2)
