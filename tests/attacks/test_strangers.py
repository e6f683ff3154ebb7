"""A stranger's requests decide neither the readers of a repository nor its content."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from mirror.access.standing import ASK_EVERY, DENIED_FOR, PUBLIC_FOR
from mirror.oci.digest import Digest
from mirror.storage.blobs.files import BlobFiles
from tests.attacks.raw import Raw, answer, speaking
from tests.standin import Fault, Hub, Image, make_image
from tests.support.clock import Clock
from tests.support.mirror import Mirror, Run
from tests.web.test_client_logins import TOKEN, clients

WORD = "s3cret-word"
NAME, SECRET, OTHER = "library/nginx", "team/secret", "mallory/app"
SIZE = 300_000
FRIEND = {"Authorization": f"Bearer {TOKEN}"}
ERROR = b'{"errors":[{"code":"UNAUTHORIZED"}]}'
JSON = b"Content-Type: application/json"


@pytest.fixture
def secret(hub: Hub) -> Image:
    """An image that only the mirror's account may read, and another, public repository."""
    hub.terms.users = {"robot": WORD}
    image = make_image(5, [SIZE])
    hub.add(image, SECRET, "latest")
    hub.make_private(SECRET, "robot")
    hub.add(make_image(6), OTHER, "latest")
    return image


def account(hub: Hub, **more: object) -> dict[str, object]:
    """Configure the hub with an account."""
    return {"docker.io": {"url": hub.url, "username": "robot", "password": WORD, **more}}


async def pulled(mirror: Mirror, image: Image) -> None:
    """Pull an image as a client that may read private content."""
    for path in (f"manifests/{image.digest}", *(f"blobs/{blob.digest}" for blob in image.blobs)):
        assert (await mirror.ask(f"/v2/{SECRET}/{path}", **FRIEND)).status == 200
    await mirror.settled()


# Who may read


async def test_who_asks_for_tags_only_keeps_nothing_open_that_became_private(
    hub: Hub, run: Run, secret: Image
) -> None:
    """The list of tags decides nothing where no client gets it: stored content is asked about."""
    hub.faults.add(Fault(kind="tags", status=404, times=None))
    clock, repository = Clock(), hub.repositories.make(SECRET)
    repository.readers = None
    async with run(clock, upstreams=account(hub), clients=clients(), tag_ttl=3600) as mirror:
        await pulled(mirror, secret)
        assert (await mirror.manifest(SECRET, secret.digest)).status == 200
        hub.make_private(SECRET, "robot")
        clock.now += PUBLIC_FOR
        for _ in range(int(3 * DENIED_FOR / 10)):
            clock.now += 10
            await mirror.ask(f"/v2/{SECRET}/tags/list")  # takes the question
            await mirror.manifest(SECRET, secret.digest)
        assert (await mirror.manifest(SECRET, secret.digest)).status == 403


async def test_who_asks_for_one_manifest_that_is_denied_hides_no_repository(
    hub: Hub, run: Run, image: Image
) -> None:
    """Registries deny single manifests (that a scanner complains of, say) and give all others."""
    bad = make_image(77)
    hub.add(bad, NAME, "bad")
    hub.faults.add(Fault(kind="tags", status=404, times=None))
    hub.faults.add(
        Fault(
            match=lambda seen: seen.kind == "manifest" and seen.reference in ("bad", bad.digest),
            status=403,
            times=None,
        )
    )
    clock = Clock()
    async with run(clock, tag_ttl=3600) as mirror:
        await mirror.pull(NAME, "latest", image)
        for _ in range(int(2 * DENIED_FOR / ASK_EVERY)):
            clock.now += ASK_EVERY
            await mirror.manifest(NAME, "bad")
        await hub.quiet()
        assert (await mirror.manifest(NAME, image.digest)).status == 200


@pytest.mark.parametrize("status", [404, 403, 500])
async def test_who_asks_for_what_cannot_be_had_keeps_nobody_from_what_is_public(
    hub: Hub, run: Run, secret: Image, image: Image, status: int
) -> None:
    """An answer is about its question: the next client's question is another."""
    hub.faults.add(Fault(kind="tags", status=404, times=None))
    hub.faults.add(Fault(kind="manifest", reference="bad", status=status, times=None))
    clock = Clock()
    async with run(clock, upstreams=account(hub)) as mirror:
        for _ in range(3):
            assert (await mirror.manifest(NAME, "bad")).status == 403
            clock.now += 1
        await mirror.pull(NAME, "latest", image)


@pytest.mark.parametrize(
    "said",
    [
        answer(ERROR, JSON),
        answer(ERROR, b"Content-Type: application/vnd.api+json"),
        answer(ERROR),
    ],
    ids=["json", "vendor", "no type"],
)
@pytest.mark.parametrize("kind", ["manifests", "blobs"])
async def test_who_names_the_digest_of_an_error_document_makes_nothing_public(
    run: Run, said: bytes, kind: str
) -> None:
    """Under a 200, it is what its digest says, and no content of a repository."""
    digest = Digest.of(ERROR)
    head = said.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    closed = answer(b"", status=b"401 Unauthorized")
    answers = {"/tags/list": closed, "HEAD ": head, digest: said, "/v2/": closed}
    async with speaking(Raw(answers)) as raw:
        upstream = {"url": raw.url, "username": "robot", "password": WORD}
        async with run(upstreams={"quay.example": upstream}) as mirror:
            got = await mirror.ask(f"/v2/quay.example/{SECRET}/{kind}/{digest}")
            assert (got.status, b'"DENIED"' in got.body) == (403, True)


async def test_a_page_under_a_200_opens_nothing_that_is_held_back(
    hub: Hub, run: Run, image: Image
) -> None:
    clock = Clock()
    async with run(clock, tag_ttl=3600) as mirror:
        await mirror.pull(NAME, "latest", image)
        hub.make_private(NAME)
        hub.tokens.revoke()
        await mirror.blob(NAME, make_image(9).layers[0].digest)
        while (await mirror.manifest(NAME, image.digest)).status == 200:
            await hub.quiet()
            clock.now += ASK_EVERY
        hub.faults.add(Fault.page(times=None))
        hub.terms.auth = "none"
        for _ in range(5):
            clock.now += ASK_EVERY
            assert (await mirror.manifest(NAME, image.digest)).status == 403
            assert (await mirror.blob(NAME, image.layers[0].digest)).status == 403


async def test_an_old_yes_opens_nothing_once_the_account_is_taken_away(
    hub: Hub, run: Run, secret: Image
) -> None:
    """Content that the account was given since may be private."""
    clock = Clock()
    hub.repositories.make(SECRET).readers = None
    async with run(clock, upstreams=account(hub), clients=clients(), tag_ttl=3600) as mirror:
        assert (await mirror.manifest(SECRET, "latest")).status == 200
        hub.make_private(SECRET, "robot")
        await pulled(mirror, secret)
    hub.tokens.revoke()
    async with run(clock, tag_ttl=3600) as mirror:
        clock.now += PUBLIC_FOR
        for _ in range(int(2 * DENIED_FOR / 20)):
            clock.now += 20
            await mirror.manifest(SECRET, secret.digest)
        assert (await mirror.manifest(SECRET, secret.digest)).status == 403


# What belongs to a repository

PAGES = {
    "page": Fault.page(),
    "error in chunks": Fault(
        body=ERROR, headers={"Content-Type": "application/json"}, status=200, chunked=True
    ),
    "text in chunks": Fault(
        body=b"no", headers={"Content-Type": "text/plain"}, status=200, chunked=True
    ),
}


def lie(hub: Hub, name: str) -> None:
    """Have the hub answer for each blob and manifest of another repository, with something else."""
    given = PAGES[name]
    hub.faults.add(
        Fault(
            match=lambda seen: seen.repository == OTHER and seen.kind == "blob",
            port="registry",
            status=given.status,
            body=given.body,
            headers={**given.headers, "Docker-Content-Digest": None},
            chunked=given.chunked,
            times=None,
        )
    )


@pytest.mark.parametrize("page", PAGES)
async def test_a_page_in_place_of_a_blob_gives_no_access_to_a_stored_blob(
    hub: Hub, run: Run, secret: Image, page: str
) -> None:
    lie(hub, page)
    async with run(upstreams=account(hub), clients=clients()) as mirror:
        await pulled(mirror, secret)
        for _ in range(2):
            for method in ("HEAD", "GET"):
                got = await mirror.blob(OTHER, secret.layers[0].digest, method)
                assert got.status != 200, method


@pytest.mark.parametrize("page", PAGES)
async def test_a_page_in_place_of_a_blob_gives_no_access_to_a_running_fetch(
    hub: Hub, run: Run, secret: Image, page: str
) -> None:
    lie(hub, page)
    go, [layer] = asyncio.Event(), secret.layers
    hub.faults.add(Fault(kind="blob", port="cdn", stall_after=SIZE // 2, until=go))
    async with run(upstreams=account(hub), clients=clients()) as mirror:
        path = f"/v2/{SECRET}/blobs/{layer.digest}"
        friend = asyncio.create_task(mirror.ask(path, **FRIEND))
        await hub.seen(lambda seen: seen.port == "cdn")
        orphans = [
            asyncio.create_task(mirror.blob(OTHER, layer.digest, method))
            for method in ("HEAD", "GET")
        ]
        await hub.seen(lambda seen: seen.repository == OTHER and seen.kind == "blob")
        go.set()
        assert (await friend).status == 200
        await mirror.settled()
        for got in await asyncio.gather(*orphans):
            assert layer.read()[:100] not in got.body
        assert (await mirror.blob(OTHER, layer.digest)).status != 200


async def test_a_head_of_another_length_gives_no_access_to_a_stored_manifest(
    hub: Hub, run: Run, secret: Image
) -> None:
    hub.faults.add(
        Fault(
            match=lambda seen: seen.repository == OTHER and seen.method == "HEAD",
            status=200,
            headers={"Content-Type": secret.media_type, "Docker-Content-Digest": None},
            body=b"x" * (secret.size - 1),
            times=None,
        )
    )
    async with run(upstreams=account(hub), clients=clients()) as mirror:
        await pulled(mirror, secret)
        assert (await mirror.manifest(OTHER, secret.digest)).status == 404


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_refusal_takes_the_same_questions_whether_a_blob_is_stored(
    hub: Hub, run: Run, secret: Image, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Its time tells a stranger nothing: no file is looked at before the answer."""
    opened = list[Digest]()
    monkeypatch.setattr(BlobFiles, "open", lambda _, digest: opened.append(digest))
    nowhere = make_image(7, [SIZE]).layers[0].digest
    async with run(upstreams=account(hub), clients=clients(), missing_ttl=0) as mirror:
        await pulled(mirror, secret)
        opened.clear()
        questions = []
        for digest in (nowhere, nowhere, secret.layers[0].digest, nowhere):
            hub.journal.clear()
            assert (await mirror.blob(OTHER, digest, method)).status == 404
            questions.append(Counter((seen.kind, seen.method) for seen in hub.requests))
        assert questions[1] == questions[2] == questions[3]
        assert opened == []
