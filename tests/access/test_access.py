"""Access: the mirror gives a client no content that upstream denies it, stored or not."""

from __future__ import annotations

import asyncio

import pytest

from mirror.access.standing import ASK_EVERY, DENIED_FOR, PUBLIC_FOR
from mirror.identity.client import ClientIdentity
from mirror.oci.names import Tag
from mirror.upstream.publicity_check import ProbedContent
from tests.standin import Fault, Hub, Image, make_image, make_index
from tests.support.clock import Clock
from tests.support.mirror import Mirror, Run
from tests.web.test_client_logins import TOKEN, clients

WORD = "s3cret-word"
PUBLIC, SECRET, LIAR = "library/nginx", "team/secret", "mallory/app"
BELIEVED = DENIED_FOR + ASK_EVERY  # seconds; the first question is not asked at once
LATEST = ProbedContent("manifest", Tag("latest"))
STRANGER, FRIEND = ClientIdentity("10.0.0.1"), ClientIdentity("10.0.0.2", "friend")


@pytest.fixture
def secret(hub: Hub) -> Image:
    """An image that only the mirror's account may read."""
    hub.terms.users = {"robot": WORD}
    image = make_image(5, [200_000])
    hub.add(image, SECRET, "latest")
    hub.make_private(SECRET, "robot")
    return image


def account(hub: Hub, **more: object) -> dict[str, object]:
    """Configure the hub with an account."""
    return {"docker.io": {"url": hub.url, "username": "robot", "password": WORD, **more}}


def ways(repository: str, image: Image) -> list[tuple[str, str]]:
    """Return every request that reads an image or its names."""
    base, layer = f"/v2/{repository}", image.layers[0].digest
    return [
        (method, f"{base}/{rest}")
        for method in ("GET", "HEAD")
        for rest in (
            "manifests/latest",
            f"manifests/{image.digest}",
            f"blobs/{layer}",
            f"blobs/{image.blobs[-1].digest}",
            "tags/list",
            f"referrers/{image.digest}",
        )
    ]


async def refused(mirror: Mirror, repository: str, image: Image) -> None:
    """Check that every request for an image is refused."""
    for method, path in ways(repository, image):
        got = await mirror.ask(path, method, Range="bytes=0-3")
        assert got.status == 403, (method, path)
        assert method == "HEAD" or b'"DENIED"' in got.body


# Patterns


@pytest.mark.parametrize("rules", [{"allow": ["team/**"]}, {"deny": ["library/*"]}])
async def test_what_is_not_allowed_or_denied_is_not_given_though_it_is_kept(
    hub: Hub, run: Run, image: Image, rules: dict[str, list[str]]
) -> None:
    async with run() as mirror:
        await mirror.pull(PUBLIC, "latest", image)
    hub.journal.clear()
    async with run(upstreams={"docker.io": {"url": hub.url, **rules}}) as mirror:
        await refused(mirror, PUBLIC, image)
        got = await mirror.manifest(PUBLIC, "latest")
        assert PUBLIC.encode() in got.body
        assert (b"team/**" in got.body) == ("allow" in rules)
        assert b"library/*" not in got.body  # other denied patterns are not told
        assert (await mirror.ask("/v2/")).status == 200
    assert hub.requests == []


async def test_deny_beats_allow(hub: Hub, run: Run, image: Image) -> None:
    rules = {"allow": ["library/*"], "deny": ["library/nginx"]}
    hub.add(image, "library/other", "latest")
    async with run(upstreams={"docker.io": {"url": hub.url, **rules}}) as mirror:
        await refused(mirror, PUBLIC, image)
        await mirror.pull("library/other", "latest", image)


# Private repositories


@pytest.mark.parametrize("private", ["nobody", "authenticated"])
async def test_a_private_repository_is_not_given_to_everybody_though_it_is_kept(
    hub: Hub, run: Run, secret: Image, private: str
) -> None:
    async with run(upstreams=account(hub, private="everyone")) as mirror:
        await mirror.pull(SECRET, "latest", secret)
    async with run(upstreams=account(hub, private=private)) as mirror:
        await refused(mirror, SECRET, secret)
    assert hub.pulls == 1


async def test_a_public_repository_is_given_to_everybody_and_asked_about_once(
    hub: Hub, run: Run, secret: Image, image: Image
) -> None:
    async with run(upstreams=account(hub)) as mirror:
        await asyncio.gather(*(mirror.manifest(PUBLIC, "latest") for _ in range(10)))
        await mirror.pull(PUBLIC, "latest", image)
        assert hub.count(kind="tags") == 2  # the very first meets a 401
        assert hub.pulls == 1
        hub.journal.clear()
        await mirror.pull(PUBLIC, "latest", image)
        assert hub.requests == []


async def test_the_question_shows_no_credentials(hub: Hub, run: Run, secret: Image) -> None:
    async with run(upstreams=account(hub)) as mirror:
        assert (await mirror.manifest(SECRET, "latest")).status == 403
    assert hub.requests
    assert not [seen for seen in hub.requests if "Basic" in seen.headers.get("authorization", "")]


async def test_upstreams_word_outlives_a_restart_and_an_outage(
    hub: Hub, run: Run, secret: Image, image: Image
) -> None:
    async with run(upstreams=account(hub), tag_ttl=3600) as mirror:
        await mirror.pull(PUBLIC, "latest", image)
        assert (await mirror.manifest(SECRET, "latest")).status == 403
    await hub.down()
    async with run(upstreams=account(hub), tag_ttl=3600) as mirror:
        await mirror.pull(PUBLIC, "latest", image)
        await refused(mirror, SECRET, secret)
    await hub.up()


async def test_what_upstream_never_said_anything_of_is_private_while_it_is_down(
    hub: Hub, run: Run, secret: Image, image: Image
) -> None:
    async with run(tag_ttl=3600) as mirror:
        await mirror.pull(PUBLIC, "latest", image)
    await hub.down()
    async with run(upstreams=account(hub), tag_ttl=3600) as mirror:
        assert (await mirror.manifest(PUBLIC, "latest")).status == 403
    await hub.up()


async def test_private_everyone_admits_all_clients_without_a_question(
    hub: Hub, run: Run, secret: Image
) -> None:
    async with run(upstreams=account(hub, private="everyone")) as mirror:
        await mirror.pull(SECRET, "latest", secret)
    assert hub.count(kind="tags") == 0


async def test_what_was_pulled_with_an_account_is_private_without_it(
    hub: Hub, run: Run, secret: Image, image: Image
) -> None:
    async with run(upstreams=account(hub, private="everyone"), tag_ttl=3600) as mirror:
        await mirror.pull(SECRET, "latest", secret)
        await mirror.pull(PUBLIC, "latest", image)
    for _ in range(2):
        async with run(tag_ttl=3600) as mirror:
            await refused(mirror, SECRET, secret)
            await mirror.pull(PUBLIC, "latest", image)
    await hub.down()
    async with run(tag_ttl=3600) as mirror:
        await refused(mirror, SECRET, secret)
        await mirror.pull(PUBLIC, "latest", image)
    await hub.up()


async def test_content_behind_basic_logins_is_given_to_no_stranger(
    hub: Hub, run: Run, secret: Image
) -> None:
    hub.terms.auth = "basic"
    async with run(upstreams=account(hub)) as mirror:
        await refused(mirror, SECRET, secret)


# Repositories that become private


def hide(hub: Hub) -> None:
    """Let upstream give the public repository to its account only."""
    hub.terms.users = {"robot": WORD}
    hub.make_private(PUBLIC, "robot")
    hub.tokens.revoke()


async def provoke(mirror: Mirror) -> None:
    """Have a client ask for content that is not stored and that upstream denies."""
    assert (await mirror.blob(PUBLIC, make_image(9).layers[0].digest)).status == 403


async def held_back(mirror: Mirror, clock: Clock, image: Image) -> float:
    """Pass ten seconds with each request, until no content is given any more.

    Returns the seconds that this took.
    """
    began = clock.now
    await provoke(mirror)
    async with asyncio.timeout(30):
        while (await mirror.manifest(PUBLIC, image.digest)).status == 200:
            clock.now += 10
    return clock.now - began


@pytest.mark.parametrize("how", ["hidden", "gone"])
async def test_what_upstream_denies_is_given_to_nobody_once_that_is_confirmed(
    hub: Hub, run: Run, image: Image, how: str
) -> None:
    clock = Clock()
    async with run(clock, tag_ttl=0) as mirror:
        await mirror.pull(PUBLIC, "latest", image)
        assert (await mirror.ask(f"/v2/{PUBLIC}/tags/list")).status == 200
        hide(hub)
        if how == "gone":
            hub.remove(PUBLIC)
        assert DENIED_FOR <= await held_back(mirror, clock, image) <= 2 * DENIED_FOR
        await refused(mirror, PUBLIC, image)
    await hub.down()
    async with run(tag_ttl=0) as mirror:
        await refused(mirror, PUBLIC, image)
    await hub.up()


async def test_a_denied_repository_is_asked_about_once_a_minute_until_granted(
    hub: Hub, run: Run, image: Image
) -> None:
    clock = Clock()
    async with run(clock, tag_ttl=0) as mirror:
        await mirror.pull(PUBLIC, "latest", image)
        hide(hub)
        await held_back(mirror, clock, image)
        await refused(mirror, PUBLIC, image)
        hub.journal.clear()
        await refused(mirror, PUBLIC, image)
        assert hub.requests == []
        clock.now += ASK_EVERY
        assert (await mirror.manifest(PUBLIC, image.digest)).status == 403
        hub.repositories.make(PUBLIC).readers = None
        clock.now += ASK_EVERY
        await mirror.pull(PUBLIC, "latest", image)
    async with run(tag_ttl=3600) as mirror:
        hub.journal.clear()
        assert (await mirror.manifest(PUBLIC, image.digest)).status == 200
    assert hub.requests == []


@pytest.mark.parametrize("private", ["nobody", "authenticated"])
async def test_what_upstream_denies_is_private_as_any_other(
    hub: Hub, run: Run, image: Image, private: str
) -> None:
    upstreams = {"docker.io": {"url": hub.url, "private": private}}
    clock = Clock()
    async with run(clock, tag_ttl=0, upstreams=upstreams, clients=clients()) as mirror:
        await mirror.pull(PUBLIC, "latest", image)
        hide(hub)
        await held_back(mirror, clock, image)
        path = f"/v2/{PUBLIC}/manifests/{image.digest}"
        got = await mirror.ask(path, Authorization=f"Bearer {TOKEN}")
        assert got.status == (200 if private == "authenticated" else 403)
        assert (await mirror.ask(path)).status == 403


async def test_a_kept_tag_is_served_over_a_denial_until_that_is_confirmed(
    hub: Hub, run: Run, image: Image
) -> None:
    clock = Clock()
    async with run(clock, tag_ttl=0) as mirror:
        await mirror.pull(PUBLIC, "latest", image)
        hide(hub)
        for method in ("HEAD", "GET"):
            got = await mirror.manifest(PUBLIC, "latest", method)
            assert got.status == 200
            assert got.headers["Docker-Content-Digest"] == image.digest
            assert "denies" in got.headers["Warning"]
        await held_back(mirror, clock, image)
        assert (await mirror.manifest(PUBLIC, "latest")).status == 403


@pytest.mark.parametrize("times", [1, 2, 3, 6])
@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_by_mistake_hides_nothing(
    hub: Hub, run: Run, image: Image, status: int, times: int
) -> None:
    async with run(tag_ttl=0) as mirror:
        await mirror.pull(PUBLIC, "latest", image)
        hub.faults.add(Fault(kind="manifest", status=status, times=times))
        for _ in range(3):
            assert (await mirror.manifest(PUBLIC, "latest")).body == image.manifest
            assert (await mirror.blob(PUBLIC, image.layers[0].digest)).status == 200
        hub.faults.clear()
        await mirror.pull(PUBLIC, "latest", image)
    async with run(tag_ttl=3600) as mirror:
        hub.journal.clear()
        await mirror.manifest(PUBLIC, image.digest)
    assert hub.requests == []


async def test_what_upstream_denies_its_account_is_public_no_more(
    hub: Hub, run: Run, secret: Image, image: Image
) -> None:
    clock = Clock()
    async with run(clock, upstreams=account(hub), tag_ttl=0) as mirror:
        await mirror.pull(PUBLIC, "latest", image)
        hub.make_private(PUBLIC, "another")
        hub.tokens.revoke()
        assert DENIED_FOR <= await held_back(mirror, clock, image) <= 2 * DENIED_FOR
        await refused(mirror, PUBLIC, image)


async def test_what_is_hidden_from_everybody_but_the_account_is_public_no_more(
    hub: Hub, run: Run, image: Image
) -> None:
    """The registry answers 404 for hidden content, and grants all to the account."""
    hub.terms.users, hub.terms.auth = {"robot": WORD}, "none"
    clock = Clock()
    async with run(clock, upstreams=account(hub, auth="basic"), tag_ttl=0) as mirror:
        await mirror.pull(PUBLIC, "latest", image)
        hub.make_private(PUBLIC, "robot")
        clock.now += PUBLIC_FOR
        async with asyncio.timeout(30):
            while (await mirror.manifest(PUBLIC, "latest")).status == 200:
                clock.now += 10
        assert clock.now >= PUBLIC_FOR + DENIED_FOR
        await refused(mirror, PUBLIC, image)


# Across repositories


def lie(hub: Hub, about: Image) -> None:
    """Add a public repository with a manifest of another's blobs, and without these blobs."""
    hub.add(about, LIAR, "latest")
    hub.repositories.make(LIAR).blobs.clear()


@pytest.mark.parametrize("kept", [True, False])
async def test_a_manifest_that_lists_anothers_blob_does_not_get_it(
    hub: Hub, run: Run, secret: Image, kept: bool
) -> None:
    lie(hub, secret)
    layer = secret.layers[0].digest
    async with run(upstreams=account(hub, private="everyone")) as mirror:
        await mirror.pull(SECRET, "latest", secret)
    async with run(upstreams=account(hub)) as mirror:
        if kept:
            assert (await mirror.manifest(LIAR, "latest")).status == 200
        for digest in (layer, secret.blobs[-1].digest):
            for method in ("HEAD", "GET"):
                assert (await mirror.blob(LIAR, digest, method)).status == 404
        await hub.down()
        assert (await mirror.blob(LIAR, layer)).status in (404, 503)
        await hub.up()


async def test_an_index_that_lists_anothers_manifest_does_not_get_it(
    hub: Hub, run: Run, secret: Image
) -> None:
    index = make_index([secret])
    hub.add(index, LIAR, "latest")
    hub.repositories.make(LIAR).manifests.pop(secret.digest)
    hub.repositories.make(LIAR).blobs.clear()
    async with run(upstreams=account(hub, private="everyone")) as mirror:
        await mirror.pull(SECRET, "latest", secret)
        assert (await mirror.manifest(LIAR, "latest")).body == index.manifest
        for method in ("HEAD", "GET"):
            assert (await mirror.manifest(LIAR, secret.digest, method)).status == 404


async def test_a_shared_layer_costs_each_repository_one_question_for_ever(
    hub: Hub, run: Run, image: Image
) -> None:
    hub.add(image, "team/b", "latest")
    async with run(tag_ttl=3600) as mirror:
        await mirror.pull(PUBLIC, "latest", image)
        hub.journal.clear()
        await mirror.pull("team/b", "latest", image)
        asked = [seen for seen in hub.requests if seen.port == "registry" and seen.kind == "blob"]
        assert sorted(seen.reference or "" for seen in asked if seen.status != 401) == sorted(
            blob.digest for blob in image.blobs
        )
        assert all(seen.method == "HEAD" for seen in asked)
    await hub.down()
    async with run(tag_ttl=3600) as mirror:
        await mirror.pull("team/b", "latest", image)
    await hub.up()


async def test_a_layer_on_its_way_is_asked_for_once_in_each_repository(
    hub: Hub, mirror: Mirror
) -> None:
    shared = make_image(7, [6_000_000])
    layer = shared.layers[0]
    for repository in (PUBLIC, "team/b"):
        hub.add(shared, repository, "latest")
    go = asyncio.Event()
    hub.faults.add(Fault(kind="blob", method="GET", stall_after=3_000_000, until=go))
    async with mirror.request(f"/v2/{PUBLIC}/blobs/{layer.digest}") as owner:
        await owner.content.readexactly(1000)
        for _ in range(3):
            async with mirror.request(f"/v2/team/b/blobs/{layer.digest}") as other:
                await other.content.readexactly(1000)
        heads = hub.journal.matching(port="registry", method="HEAD", repository="team/b")
        assert len([seen for seen in heads if seen.status != 401]) == 1
        go.set()
        await owner.read()
