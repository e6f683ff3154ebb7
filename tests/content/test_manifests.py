"""Manifests and tags: fresh, revalidated, moved, stale or missing, and the pulls that they cost."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from tests.standin import Fault, Hub, Image, make_image, make_index
from tests.support.clock import Clock
from tests.support.mirror import Mirror, Run

REPOSITORY = "library/nginx"


async def test_a_warm_tag_asks_upstream_nothing(hub: Hub, mirror: Mirror, image: Image) -> None:
    cold = await mirror.manifest(REPOSITORY, "latest")
    assert (cold.status, cold.body, cold.cache) == (200, image.manifest, "fwd=uri-miss")
    hub.journal.clear()
    warm = await mirror.manifest(REPOSITORY, "latest")
    assert (warm.status, warm.body, warm.cache) == (200, image.manifest, "hit")
    assert hub.requests == []


async def test_a_manifest_has_every_header_that_clients_need(mirror: Mirror, image: Image) -> None:
    for method in ("GET", "HEAD"):
        for reference in ("latest", image.digest, image.digest.replace(":", "%3A")):
            got = await mirror.manifest(REPOSITORY, reference, method)
            assert got.status == 200
            assert got.headers["Content-Type"] == image.media_type
            assert got.headers["Content-Length"] == str(len(image.manifest))
            assert got.headers["Docker-Content-Digest"] == image.digest
            assert got.headers["ETag"] == f'"{image.digest}"'
            assert got.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
            assert got.body == (image.manifest if method == "GET" else b"")


async def test_a_stale_tag_is_revalidated_by_head_and_costs_no_pull(
    hub: Hub, run: Run, image: Image
) -> None:
    async with run(tag_ttl=0) as mirror:
        await mirror.manifest(REPOSITORY, "latest")
        again = await mirror.manifest(REPOSITORY, "latest")
    assert again.body == image.manifest
    assert again.cache == "fwd=stale; detail=revalidated"
    assert hub.pulls == 1
    assert hub.count(kind="manifest", method="HEAD", status=200) == 2


async def test_a_moved_tag_is_fetched_once_by_digest(hub: Hub, run: Run, image: Image) -> None:
    moved = make_image(2)
    async with run(tag_ttl=0) as mirror:
        await mirror.manifest(REPOSITORY, "latest")
        hub.tag(REPOSITORY, "latest", moved)
        assert (await mirror.manifest(REPOSITORY, "latest")).body == moved.manifest
        hub.tag(REPOSITORY, "latest", image)
        assert (await mirror.manifest(REPOSITORY, "latest")).body == image.manifest
    assert hub.pulls == 2
    assert hub.count(kind="manifest", method="GET", reference=moved.digest, counted=True) == 1


async def test_a_digest_is_never_asked_for_again(hub: Hub, run: Run, image: Image) -> None:
    async with run(tag_ttl=0) as mirror:
        await mirror.manifest(REPOSITORY, image.digest)
        hub.journal.clear()
        assert (await mirror.manifest(REPOSITORY, image.digest)).cache == "hit"
        assert (await mirror.manifest(REPOSITORY, image.digest, "HEAD")).cache == "hit"
    assert hub.requests == []


async def test_fifty_clients_cost_one_head_one_pull_and_one_token(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    got = await asyncio.gather(*(mirror.manifest(REPOSITORY, "latest") for _ in range(50)))
    assert {answer.body for answer in got} == {image.manifest}
    assert hub.pulls == 1
    assert hub.count(kind="manifest", method="HEAD", status=200) == 1
    assert hub.count(kind="token") == 1


async def test_a_head_costs_no_pull_and_no_body(hub: Hub, run: Run, image: Image) -> None:
    async with run(tag_ttl=0) as mirror:
        for _ in range(3):
            head = await mirror.manifest(REPOSITORY, "latest", "HEAD")
            assert head.headers["Docker-Content-Digest"] == image.digest
            assert head.headers["Content-Length"] == str(image.size)
        await mirror.manifest(REPOSITORY, image.digest, "HEAD")
    assert hub.pulls == 0


async def test_a_missing_tag_is_remembered_for_a_while_only(
    hub: Hub, run: Run, image: Image
) -> None:
    clock = Clock()
    async with run(clock, missing_ttl=30) as mirror:
        for _ in range(3):
            missing = await mirror.manifest(REPOSITORY, "nope")
            assert missing.status == 404
            assert b"MANIFEST_UNKNOWN" in missing.body
        assert hub.count(kind="manifest", method="GET", reference="nope", status=404) == 1
        hub.tag(REPOSITORY, "nope", image)
        clock.now += 29
        assert (await mirror.manifest(REPOSITORY, "nope")).status == 404
        clock.now += 2
        assert (await mirror.manifest(REPOSITORY, "nope")).status == 200
    assert hub.pulls == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="manifest", status=429, times=None),
        Fault(kind="manifest", status=503, times=None),
        Fault(kind="manifest", hang=True, times=None),
        Fault(kind="manifest", drop=True, times=None),
        Fault.page("manifest", times=None),
    ],
    ids=["limited", "unavailable", "hanging", "dropping", "web page"],
)
async def test_a_failing_upstream_leaves_the_stale_tag_within_three_seconds(
    hub: Hub, run: Run, image: Image, fault: Fault
) -> None:
    async with run(tag_ttl=0) as mirror:
        await mirror.manifest(REPOSITORY, "latest")
        hub.faults.add(fault)
        async with asyncio.timeout(3):
            stale = await mirror.manifest(REPOSITORY, "latest")
        assert (stale.status, stale.body) == (200, image.manifest)
        assert stale.cache == "hit; detail=stale"
        assert stale.headers["Warning"].startswith("299 ")
        assert int(stale.headers["Age"]) >= 0
        async with asyncio.timeout(0.5):  # upstream just failed: no second wait so soon
            assert (await mirror.manifest(REPOSITORY, "latest", "HEAD")).status == 200


async def test_upstream_being_gone_leaves_the_stale_tag(hub: Hub, run: Run, image: Image) -> None:
    async with run(tag_ttl=0) as mirror:
        await mirror.manifest(REPOSITORY, "latest")
        await hub.down()
        async with asyncio.timeout(3):
            stale = await mirror.manifest(REPOSITORY, "latest")
        assert (stale.body, stale.cache) == (image.manifest, "hit; detail=stale")
        await hub.up()


async def test_a_tag_that_moves_while_the_limit_is_spent_is_served_stale(
    hub: Hub, run: Run, image: Image
) -> None:
    hub.terms.limit = 1
    async with run(tag_ttl=0) as mirror:
        await mirror.manifest(REPOSITORY, "latest")
        hub.tag(REPOSITORY, "latest", make_image(2))
        for _ in range(3):
            got = await mirror.manifest(REPOSITORY, "latest")
            assert (got.body, got.cache) == (image.manifest, "hit; detail=stale")
        refused = await mirror.manifest(REPOSITORY, make_image(2).digest)
        assert refused.status == 429
        assert int(refused.headers["Retry-After"]) > 0
        assert b"TOOMANYREQUESTS" in refused.body


async def test_dockerd_keeps_the_tag_it_had_while_the_limit_is_spent(
    hub: Hub, run: Run, image: Image
) -> None:
    hub.terms.limit = 1
    async with run(tag_ttl=0) as mirror:
        await mirror.manifest(REPOSITORY, "latest")
        hub.tag(REPOSITORY, "latest", make_image(2))
        for _ in range(3):  # HEAD by tag, then GET by the digest of its answer
            head = await mirror.manifest(REPOSITORY, "latest", "HEAD")
            assert (head.status, head.cache) == (200, "hit; detail=stale")
            got = await mirror.manifest(REPOSITORY, head.headers["Docker-Content-Digest"])
            assert got.body == image.manifest


@pytest.mark.parametrize("fault", [Fault(hang=True, times=None), Fault(status=503, times=None)])
async def test_a_tag_whose_new_manifest_does_not_come_stays_within_three_seconds(
    hub: Hub, run: Run, image: Image, fault: Fault
) -> None:
    async with run(tag_ttl=0) as mirror:
        await mirror.manifest(REPOSITORY, "latest")
        moved = make_image(2)
        hub.tag(REPOSITORY, "latest", moved)
        hub.faults.add(replace(fault, kind="manifest", method="GET"))
        async with asyncio.timeout(3):
            got = await mirror.manifest(REPOSITORY, "latest")
        assert (got.body, got.cache) == (image.manifest, "hit; detail=stale")


async def test_a_tag_is_served_stale_if_an_upstream_without_digests_fails(
    hub: Hub, run: Run, image: Image
) -> None:
    nameless = Fault(kind="manifest", method="HEAD", headers={"Docker-Content-Digest": None})
    hub.faults.add(replace(nameless, times=None))
    async with run(tag_ttl=0) as mirror:
        await mirror.manifest(REPOSITORY, "latest")
        hub.faults.add(Fault(kind="manifest", method="GET", status=503, times=None))
        got = await mirror.manifest(REPOSITORY, "latest")
        assert (got.body, got.cache) == (image.manifest, "hit; detail=stale")


async def test_a_manifest_that_must_not_be_kept_is_not_pulled_again_and_again(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    unfit = {"Content-Type": "application/vnd.docker.distribution.manifest.v1+prettyjws"}
    hub.faults.add(Fault(kind="manifest", headers=unfit, times=None))
    for reference in ("latest", image.digest):
        for _ in range(4):
            assert (await mirror.manifest(REPOSITORY, reference)).status == 502
    assert hub.count(kind="manifest", method="GET", status=200) == 1


async def test_one_digest_pulled_at_once_in_many_repositories_is_one_pull(
    hub: Hub, mirror: Mirror
) -> None:
    shared = make_image(50)
    names = [f"team{number}/app" for number in range(8)]
    for name in names:
        hub.add(shared, name, "latest")
    got = await asyncio.gather(*(mirror.manifest(name, "latest") for name in names))
    assert {answer.body for answer in got} == {shared.manifest}
    assert hub.pulls == 1
    assert mirror.stored.failures == 0


async def test_many_heads_by_digest_are_one_upstream(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    got = await asyncio.gather(
        *(mirror.manifest(REPOSITORY, image.digest, "HEAD") for _ in range(30))
    )
    assert {answer.status for answer in got} == {200}
    assert hub.count(kind="manifest", method="HEAD", status=200) == 1


async def test_a_manifest_that_a_tag_was_found_to_name_is_no_longer_missing(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    pushed = make_image(60)
    assert (await mirror.manifest(REPOSITORY, pushed.digest)).status == 404
    hub.tag(REPOSITORY, "new", pushed)
    assert (await mirror.manifest(REPOSITORY, "new", "HEAD")).status == 200
    assert (await mirror.manifest(REPOSITORY, pushed.digest)).body == pushed.manifest


async def test_if_none_match_of_a_manifest_that_is_not_stored_costs_no_pull(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    path = f"/v2/{REPOSITORY}/manifests/latest"
    assert (await mirror.ask(path, If_None_Match=f'"{image.digest}"')).status == 304
    assert hub.pulls == 0
    assert (await mirror.ask(path, If_None_Match='"sha256:other"')).body == image.manifest
    assert hub.pulls == 1


async def test_a_tag_that_upstream_has_not_any_more_is_gone(
    hub: Hub, run: Run, image: Image
) -> None:
    async with run(tag_ttl=0) as mirror:
        await mirror.manifest(REPOSITORY, "latest")
        hub.faults.add(Fault(kind="manifest", status=404, times=None))
        assert (await mirror.manifest(REPOSITORY, "latest")).status == 404
        assert (await mirror.manifest(REPOSITORY, image.digest)).body == image.manifest
    assert hub.count(kind="manifest", reference="latest", method="GET", status=404) == 1


@pytest.mark.parametrize("status", [401, 403])
async def test_a_denial_leaves_the_stale_tag_and_says_so(
    hub: Hub, run: Run, image: Image, status: int
) -> None:
    async with run(tag_ttl=0) as mirror:
        await mirror.manifest(REPOSITORY, "latest")
        hub.faults.add(Fault(kind="manifest", status=status, times=None))
        for method in ("GET", "HEAD"):
            got = await mirror.manifest(REPOSITORY, "latest", method)
            assert (got.status, got.cache) == (200, "hit; detail=stale")
            assert "upstream denies access" in got.headers["Warning"]
        fresh = await mirror.manifest(REPOSITORY, "another")
        assert (fresh.status, json.loads(fresh.body)["errors"][0]["code"]) == (403, "DENIED")
        assert "WWW-Authenticate" not in fresh.headers


async def test_an_unknown_repository_is_denied_without_a_challenge(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    got = await mirror.manifest("library/nothing", "latest")
    assert got.status == 403
    assert b"DENIED" in got.body
    assert "WWW-Authenticate" not in got.headers


async def test_if_none_match_saves_the_body(mirror: Mirror, image: Image) -> None:
    path = f"/v2/{REPOSITORY}/manifests/latest"
    for tags in (f'"{image.digest}"', image.digest, f'W/"{image.digest}"', '"x", *'):
        got = await mirror.ask(path, If_None_Match=tags)
        assert (got.status, got.body) == (304, b"")
        assert got.headers["ETag"] == f'"{image.digest}"'
    assert (await mirror.ask(path, If_None_Match='"sha256:other"')).status == 200


async def test_an_index_and_its_images_are_pulled_as_they_are(hub: Hub, mirror: Mirror) -> None:
    images = [make_image(3, architecture="amd64"), make_image(4, architecture="arm64")]
    index = make_index(images, media="docker")
    hub.add(index, REPOSITORY, "multi")
    got = await mirror.manifest(REPOSITORY, "multi")
    assert (got.body, got.headers["Content-Type"]) == (index.manifest, index.media_type)
    await mirror.pull(REPOSITORY, images[1].digest, images[1])


async def test_a_one_word_name_is_docker_hubs_library(mirror: Mirror, image: Image) -> None:
    assert (await mirror.manifest("nginx", "latest")).body == image.manifest
    assert (await mirror.blob("nginx", image.config.digest)).body == image.config.read()


async def test_the_upstream_may_be_named_by_ns(mirror: Mirror, image: Image) -> None:
    for name in ("docker.io", "index.docker.io", "registry-1.docker.io"):
        got = await mirror.ask(f"/v2/{REPOSITORY}/manifests/latest?ns={name}")
        assert (got.body, got.headers["OCI-Namespace"]) == (image.manifest, name)
    unknown = await mirror.ask(f"/v2/{REPOSITORY}/manifests/latest?ns=ghcr.io")
    assert unknown.status == 404
    assert b"NAME_UNKNOWN" in unknown.body


@pytest.mark.parametrize("by", ["latest", "digest"])
async def test_a_wrong_manifest_is_neither_served_nor_kept(
    hub: Hub, run: Run, image: Image, by: str
) -> None:
    reference = image.digest if by == "digest" else by
    other = make_image(9).manifest
    hub.faults.add(Fault(kind="manifest", method="GET", body=lambda _: other, times=2))
    async with run() as mirror:
        assert (await mirror.manifest(REPOSITORY, reference)).status == 502
    async with run() as mirror:
        assert (await mirror.manifest(REPOSITORY, reference)).body == image.manifest


async def test_a_manifest_survives_a_restart_without_a_pull(
    hub: Hub, run: Run, image: Image
) -> None:
    async with run() as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
    hub.journal.clear()
    await hub.down()
    async with run() as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
    assert hub.requests == []
    await hub.up()


async def test_an_upstream_that_names_no_digest_is_asked_by_tag(
    hub: Hub, run: Run, image: Image
) -> None:
    nameless = {"Docker-Content-Digest": None}
    hub.faults.add(Fault(kind="manifest", headers=nameless, times=None))
    async with run() as mirror:
        assert (await mirror.manifest(REPOSITORY, "latest")).body == image.manifest
        assert (await mirror.manifest(REPOSITORY, "latest")).cache == "hit"


async def test_a_manifest_altered_on_the_disk_is_found_and_fetched_again(
    hub: Hub, run: Run, image: Image
) -> None:
    async with run() as mirror:
        await mirror.manifest(REPOSITORY, "latest")
        path = mirror.folder.blob(image.digest)
    altered = path.read_bytes().replace(b"2", b"3", 1)
    path.write_bytes(altered)
    async with run() as mirror:
        assert (await mirror.manifest(REPOSITORY, "latest")).body == image.manifest
    assert hub.pulls == 2


async def test_a_lost_index_costs_no_pull(hub: Hub, run: Run, image: Image) -> None:
    async with run() as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
    mirror.folder.lose_index()
    hub.journal.clear()
    async with run() as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
    assert hub.pulls == 0
    assert [hub.bodies(blob.digest) for blob in image.blobs] == [0, 0, 0]


async def test_a_denial_is_remembered_for_a_while_only(hub: Hub, run: Run, image: Image) -> None:
    """As crane, a client asks by HEAD, is refused, and asks by GET: upstream is asked once."""
    hub.terms.users = {"robot": "word"}
    hub.add(image, "team/secret", "latest")
    hub.make_private("team/secret", "robot")
    clock = Clock()
    async with run(clock, missing_ttl=30) as mirror:
        for method in ("HEAD", "GET", "HEAD", "GET"):
            assert (await mirror.manifest("team/secret", "latest", method)).status == 403
        assert hub.count(kind="token") == 2  # before: 8
        assert hub.count(kind="manifest", status=401) == 3  # before: 9
        hub.journal.clear()
        hub.repositories.make("team/secret").readers = None
        clock.now += 29
        assert (await mirror.manifest("team/secret", "latest")).status == 403
        clock.now += 2
        assert (await mirror.manifest("team/secret", "latest")).status == 200
        assert hub.pulls == 1


async def test_a_denial_of_content_that_was_given_before_is_not_remembered(
    hub: Hub, run: Run, image: Image
) -> None:
    """The denial may be a mistake, and a mistake ends with the next question."""
    hub.add(other := make_image("other", [1000]), REPOSITORY, "other")
    async with run(tag_ttl=0, missing_ttl=3600) as mirror:
        assert (await mirror.manifest(REPOSITORY, "latest")).status == 200
        hub.faults.add(Fault(kind="manifest", status=403, times=None))
        assert (await mirror.manifest(REPOSITORY, "other")).status == 403
        hub.faults.clear()
        assert (await mirror.manifest(REPOSITORY, "other")).body == other.manifest
