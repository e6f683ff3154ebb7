"""Publicity: content that upstream gives without an account is public, however upstream says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from mirror.access.standing import ASK_EVERY, DENIED_FOR, PUBLIC_FOR
from tests.attacks.raw import Raw, answer, speaking
from tests.standin import Fault, Hub, Image, make_image, with_fields, without
from tests.standin.faults import padded
from tests.support.clock import Clock
from tests.support.mirror import Mirror, Run

WORD = "s3cret-word"
NAME, SECRET = "library/nginx", "team/secret"

# Ways to close a list of tags to clients without an account, or to garble it.
CLOSED = [
    Fault(kind="tags", body=with_fields(tags=None), times=None),
    Fault(kind="tags", body=without("tags"), times=None),
    Fault(kind="tags", body=padded(5_000_000), times=None),
    Fault(kind="tags", body=b'["latest"]', times=None),
    Fault(kind="tags", body=b"", times=None),
    Fault.page("tags", times=None),
    Fault.page("tags", times=None, status=403),
    Fault.abuse("tags", times=None),
    *(Fault(kind="tags", status=status, times=None) for status in (401, 403, 404, 405, 500, 503)),
]


def of(fault: Fault) -> str:
    """Return the name of a fault."""
    return f"{fault.status} {fault.body!r}"[:40]


@pytest.fixture(params=CLOSED, ids=of)
def closed(hub: Hub, request: pytest.FixtureRequest) -> None:
    """A hub that does not list tags."""
    hub.faults.add(request.param)


def with_account(hub: Hub, name: str = "docker.io", **more: object) -> dict[str, object]:
    """Configure the hub with an account."""
    hub.terms.users = {"robot": WORD}
    return {name: {"url": hub.url, "username": "robot", "password": WORD, **more}}


@pytest.mark.usefixtures("closed")
async def test_public_content_stays_public_when_the_list_of_tags_changes(
    hub: Hub, run: Run, image: Image
) -> None:
    async with run(upstreams=with_account(hub)) as mirror:
        await mirror.pull(NAME, "latest", image)
    assert hub.pulls == 1


async def test_a_list_of_tags_that_never_comes_closes_no_public_repository(
    hub: Hub, run: Run, image: Image
) -> None:
    hub.faults.add(Fault(kind="tags", hang=True, times=None))
    async with run(upstreams=with_account(hub), answer_timeout=1.5) as mirror:
        await mirror.pull(NAME, "latest", image)
    assert hub.count(kind="tags") <= 2


@pytest.mark.usefixtures("closed")
async def test_what_is_private_is_closed_whatever_becomes_of_the_list_of_tags(
    hub: Hub, run: Run
) -> None:
    image = make_image(5, [200_000])
    hub.add(image, SECRET, "latest")
    hub.make_private(SECRET, "robot")
    async with run(upstreams=with_account(hub, private="everyone")) as mirror:
        await mirror.pull(SECRET, "latest", image)
    async with run(upstreams=with_account(hub)) as mirror:
        for path in ("manifests/latest", f"manifests/{image.digest}", "tags/list"):
            assert (await mirror.ask(f"/v2/{SECRET}/{path}")).status == 403
        for blob in image.blobs:
            assert (await mirror.blob(SECRET, blob.digest)).status == 403


@pytest.mark.parametrize("status", [400, 403, 404, 405])
@pytest.mark.parametrize("what", ["manifest", "blob"])
async def test_what_head_is_refused_get_decides_where_that_is_no_pull(
    hub: Hub, run: Run, image: Image, status: int, what: str
) -> None:
    hub.faults.add(Fault(kind="tags", status=404, times=None))
    hub.faults.add(
        Fault(
            match=lambda seen: seen.kind == what,
            port="registry",
            method="HEAD",
            status=status,
            times=None,
        )
    )
    async with run(upstreams=with_account(hub, "quay.example")) as mirror:
        if what == "manifest":
            got = await mirror.manifest(f"quay.example/{NAME}", image.digest)
        else:
            got = await mirror.blob(f"quay.example/{NAME}", image.layers[0].digest)
        assert got.status == 200


async def test_a_private_repository_is_asked_about_once_a_minute_until_public(
    hub: Hub, run: Run, image: Image
) -> None:
    hub.make_private(NAME, "robot")
    clock = Clock()
    async with run(clock, upstreams=with_account(hub)) as mirror:
        assert (await mirror.manifest(NAME, "latest")).status == 403
        hub.repositories.make(NAME).readers = None
        hub.journal.clear()
        for _ in range(5):
            assert (await mirror.manifest(NAME, "latest")).status == 403
        assert hub.requests == []  # the first denial is checked after at least ten seconds
        clock.now += ASK_EVERY
        await mirror.pull(NAME, "latest", image)


@pytest.mark.parametrize(
    "fault", [Fault(status=404), Fault(status=500), Fault.abuse(), Fault.page()]
)
async def test_what_could_not_be_told_is_told_seconds_later(
    hub: Hub, run: Run, image: Image, fault: Fault
) -> None:
    hub.faults.add(Fault(kind="tags", status=404, times=None))
    clock, until = Clock(), asyncio.Event()
    faulty = Fault(
        match=lambda seen: seen.kind == "manifest" and not until.is_set(),
        status=fault.status or 200,
        body=fault.body,
        headers={**fault.headers, "Retry-After": "1"},
        times=None,
    )
    hub.faults.add(faulty)
    async with run(clock, upstreams=with_account(hub)) as mirror:
        assert (await mirror.manifest(NAME, "latest")).status == 403
        until.set()
        await asyncio.sleep(1.1 if faulty.status == 429 else 0)
        clock.now += 6
        await mirror.pull(NAME, "latest", image)


# Answers that are no yes

LOGIN = answer(b"<html>Please log in</html>", b"Content-Type: text/html")
ERROR = answer(b'{"errors":[{"code":"UNAUTHORIZED"}]}', b"Content-Type: application/json")


def headers_of(said: bytes) -> bytes:
    """Return the head of an answer, as the answer to a HEAD."""
    return said.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


@pytest.mark.parametrize("said", [LOGIN, ERROR], ids=["page", "error"])
@pytest.mark.parametrize("upstream", ["docker.io", "quay.example"])
async def test_a_page_or_an_error_under_a_200_makes_nothing_public(
    run: Run, said: bytes, upstream: str
) -> None:
    layer = make_image(5, [200_000]).layers[0].digest
    async with speaking(Raw({"HEAD ": headers_of(said), "/v2/": said})) as raw:
        account = {"url": raw.url, "username": "robot", "password": WORD}
        async with run(upstreams={upstream: account}) as mirror:
            for path in ("manifests/latest", f"manifests/{layer}", f"blobs/{layer}", "tags/list"):
                raw.heads.clear()
                got = await mirror.ask(f"/v2/{upstream}/{NAME}-{path[:6]}{len(path)}/{path}")
                assert (got.status, b'"DENIED"' in got.body) == (403, True), path
                assert b"/tags/list" in raw.heads[0]
                assert path == "tags/list" or raw.heads[1].startswith(b"HEAD ")


async def test_a_redirect_to_a_login_page_makes_nothing_public(run: Run) -> None:
    layer = make_image(5, [200_000]).layers[0].digest
    async with speaking(Raw({"HEAD ": headers_of(LOGIN), "/login": LOGIN})) as elsewhere:
        location = b"Location: " + elsewhere.url.encode() + b"/login"
        sent = answer(b"", location, status=b"302 Found")
        async with speaking(Raw({"/v2/": sent})) as raw:
            account = {"url": raw.url, "username": "robot", "password": WORD}
            async with run(upstreams={"quay.example": account}) as mirror:
                for number, path in enumerate(("manifests/latest", f"blobs/{layer}", "tags/list")):
                    got = await mirror.ask(f"/v2/quay.example/{NAME}{number}/{path}")
                    assert (got.status, b'"DENIED"' in got.body) == (403, True), path
        assert elsewhere.heads


# Stored content stays


@pytest.mark.parametrize("kind", ["manifest", "blob", "tags"])
@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("times", [2, 3, 10])
async def test_denials_by_mistake_hide_nothing_that_is_kept(
    hub: Hub, run: Run, image: Image, kind: str, status: int, times: int
) -> None:
    clock = Clock()
    async with run(clock, tag_ttl=3600) as mirror:
        await mirror.pull(NAME, "latest", image)
        hub.faults.add(
            Fault(match=lambda seen: seen.kind == kind, port="registry", status=status, times=times)
        )
        for _ in range(5):
            await mirror.blob(NAME, make_image(9).layers[0].digest)
            await mirror.manifest(NAME, "other")
            await whole(mirror, image)
            clock.now += ASK_EVERY
    async with run(clock, tag_ttl=3600) as mirror:
        await whole(mirror, image)


Break = Callable[[Hub], None]
EVERYBODY: dict[str, Break] = {
    **{
        f"token {status}": lambda hub, status=status: add(hub, kind="token", status=status)  # type: ignore[misc]
        for status in (401, 403, 500)
    },
    "registry 401": lambda hub: add(hub, port="registry", status=401),
    "registry 403": lambda hub: add(hub, port="registry", status=403),
    "network 403": lambda hub: add(hub, kind="blob", port="cdn", status=403),
}


def add(hub: Hub, **fields: object) -> None:
    """Let the hub have this fault from now on."""
    hub.tokens.revoke()
    hub.faults.add(Fault(times=None, **fields))  # type: ignore[arg-type]


@pytest.mark.parametrize("what", EVERYBODY)
@pytest.mark.parametrize("account", [True, False])
async def test_an_outage_for_everybody_hides_nothing_however_long_it_is(
    hub: Hub, run: Run, image: Image, what: str, account: bool
) -> None:
    clock = Clock()
    upstreams = with_account(hub) if account else {"docker.io": {"url": hub.url}}
    async with run(clock, tag_ttl=3600, upstreams=upstreams) as mirror:
        await mirror.pull(NAME, "latest", image)
        EVERYBODY[what](hub)
        for _ in range(20):
            await mirror.blob(NAME, make_image(9).layers[0].digest)
            await whole(mirror, image)
            clock.now += DENIED_FOR / 5
        await hub.quiet()
    async with run(clock, tag_ttl=3600, upstreams=upstreams) as mirror:
        await whole(mirror, image)
        hub.faults.clear()


async def test_a_registry_that_answers_its_account_only_is_public_no_more(
    hub: Hub, run: Run, image: Image
) -> None:
    """Anonymous questions are all refused, but this is no outage: the account is answered."""
    clock = Clock()
    async with run(clock, tag_ttl=3600, upstreams=with_account(hub)) as mirror:
        await mirror.pull(NAME, "latest", image)
        hub.terms.auth = "basic"
        clock.now += PUBLIC_FOR
        async with asyncio.timeout(30):
            while (await mirror.manifest(NAME, image.digest)).status == 200:
                clock.now += 10
        assert DENIED_FOR <= clock.now - PUBLIC_FOR <= 2 * DENIED_FOR


async def test_a_denial_is_checked_with_a_fresh_token(hub: Hub, run: Run, image: Image) -> None:
    async with run(tag_ttl=3600) as mirror:
        await mirror.pull(NAME, "latest", image)
        hub.faults.add(Fault(kind="blob", port="registry", status=403, times=None))
        assert (await mirror.blob(NAME, make_image(9).layers[0].digest)).status == 403
        hub.faults.clear()
        hub.journal.clear()
        await whole(mirror, image)
        await hub.seen(lambda seen: seen.kind == "tags" and seen.status == 200)
        assert hub.count(port="token", repository=NAME) == 1


async def test_ten_clients_that_meet_a_denial_are_one_question(
    hub: Hub, run: Run, image: Image
) -> None:
    clock = Clock()
    async with run(clock, tag_ttl=3600) as mirror:
        await mirror.pull(NAME, "latest", image)
        hub.make_private(NAME)
        hub.tokens.revoke()
        digest = make_image(9).layers[0].digest
        await asyncio.gather(*(mirror.blob(NAME, digest) for _ in range(10)))
        hub.journal.clear()
        await asyncio.gather(*(whole(mirror, image) for _ in range(10)))
        await hub.seen(lambda seen: seen.kind == "ping" and seen.status == 200)
        await asyncio.gather(*(whole(mirror, image) for _ in range(10)))
        assert hub.count(kind="tags") <= 4  # for one question, with each token that is tried
        assert hub.count(kind="ping", status=200) == 1


async def whole(mirror: Mirror, image: Image) -> None:
    """Check that the whole image is given by digest."""
    assert (await mirror.manifest(NAME, image.digest)).body == image.manifest
    for blob in image.blobs:
        assert (await mirror.blob(NAME, blob.digest)).body == blob.read()
