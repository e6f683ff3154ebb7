"""Bytes of one upstream are served for another only where that shows that it has them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from mirror.storage.errors import StoreError
from mirror.storage.secret import folder_key
from tests.attacks.raw import answer
from tests.standin import Blob, Fault, Hub, Image, make_image, make_index
from tests.support.mirror import Got, Mirror, Run
from tests.support.waiting import until
from tests.web.test_client_logins import TOKEN, clients

WORD, SECRET, LIAR = "s3cret-word", "team/secret", "liar.example/a/b"
FRIEND = {"Authorization": f"Bearer {TOKEN}"}
SIZE = 3_000_000
SPAN = 64 * 1024


@pytest.fixture
def secret(hub: Hub) -> Image:
    """An image that only the mirror's account may read."""
    hub.terms.users = {"robot": WORD}
    image = make_image(5, [SIZE])
    hub.add(image, SECRET, "latest")
    hub.make_private(SECRET, "robot")
    return image


@dataclass
class Liar:
    """An upstream that claims to have an image of which it knows all names, types and sizes.

    `way` is how it answers for bytes that it has not got, `heads` are the requests.
    """

    image: Image
    way: str = "other bytes"
    url: str = ""
    heads: list[str] = field(default_factory=list)
    held: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and hang up."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            for part in self._answer(head):
                writer.write(part)
                await writer.drain()
            if self.way == "no end" and "/blobs/" in head:
                await self.held.wait()
        writer.close()

    async def asked(self) -> None:
        """Wait until it was asked for a blob."""
        await until(lambda: any("/blobs/" in head for head in self.heads))

    def _answer(self, head: str) -> list[bytes]:
        if "/manifests/" in head:
            digest, kind = self.image.digest.encode(), self.image.media_type.encode()
            lines = [b"Docker-Content-Digest: " + digest, b"Content-Type: " + kind]
            body = b"{" + bytes(self.image.size - 1)
            return [answer(body, *lines)[: -len(body) if head.startswith("HEAD") else None]]
        if "/blobs/" not in head:  # a probe
            return [answer(b"")]
        [blob] = [blob for blob in self.image.blobs if blob.digest in head]
        if head.startswith("HEAD"):
            return [answer(b"", b"Content-Length: %d" % blob.size, length=False)]
        if self.way == "nothing":
            return []
        asked = re.search(r"(?i)range: bytes=(\d+)-(\d*)", head)
        start, last = (int(asked[1]), int(asked[2] or blob.size - 1)) if asked else (0, 0)
        if asked and self.way != "no ranges":
            lines = [b"Content-Range: bytes %d-%d/%d" % (start, last, blob.size)]
            status, length = b"206 Partial Content", last - start + 1
        else:
            lines, status, length = [], b"200 OK", blob.size
        body = answer(bytes(length), *lines, status=status)
        return [body[: -length // 2]] if self.way in ("half", "no end") else [body]


@contextlib.asynccontextmanager
async def lying(image: Image, way: str = "other bytes") -> AsyncIterator[Liar]:
    """Let it lie on a free port of the loopback."""
    liar = Liar(image, way)
    server = await asyncio.start_server(liar.serve, "127.0.0.1", 0)
    liar.url = "http://{}:{}".format(*server.sockets[0].getsockname())
    try:
        yield liar
    finally:
        liar.held.set()
        server.close()


def beside(hub: Hub, liar: Liar) -> dict[str, object]:
    """Configure the hub with an account, and the liar."""
    own = {"url": hub.url, "username": "robot", "password": WORD}
    upstreams = {"docker.io": own, "liar.example": {"url": liar.url}}
    quick = {"silence_timeout": 1, "resume_timeout": 1, "answer_timeout": 3}
    return {"upstreams": upstreams, "clients": clients(), **quick}


def patient(hub: Hub, liar: Liar) -> dict[str, object]:
    """Configure them so that silence is borne for longer than any test lasts."""
    return beside(hub, liar) | {"silence_timeout": 30}


async def pulled(mirror: Mirror, image: Image) -> None:
    """Have a client that may read it pull it all."""
    for path in ("manifests/latest", *(f"blobs/{blob.digest}" for blob in image.blobs)):
        assert (await mirror.ask(f"/v2/{SECRET}/{path}", **FRIEND)).status == 200
    await mirror.settled()


async def unharmed(hub: Hub, mirror: Mirror, image: Image) -> None:
    """Check that the image is still stored, and served to its readers."""
    hub.journal.clear()
    for blob in image.blobs:
        assert (await mirror.ask(f"/v2/{SECRET}/blobs/{blob.digest}", **FRIEND)).cache == "hit"
    got = await mirror.ask(f"/v2/{SECRET}/manifests/{image.digest}", **FRIEND)
    assert got.body == image.manifest
    assert hub.requests == []


@pytest.mark.parametrize("way", ["other bytes", "half", "nothing", "no ranges"])
async def test_a_blob_is_not_given_to_who_only_claims_it(
    hub: Hub, run: Run, secret: Image, way: str
) -> None:
    async with lying(secret, way) as liar, run(**beside(hub, liar)) as mirror:
        await pulled(mirror, secret)
        for blob in secret.blobs:
            for method in ("HEAD", "GET", "GET"):
                got = await mirror.blob(LIAR, blob.digest, method)
                assert method == "HEAD" or got.status in (502, 503, 504)
            part = await mirror.blob(LIAR, blob.digest, Range="bytes=0-99")
            assert part.status in (502, 503, 504)
        await unharmed(hub, mirror, secret)


async def test_that_a_blob_is_here_is_not_told_to_who_only_claims_it(
    hub: Hub, run: Run, secret: Image
) -> None:
    async with lying(secret) as liar, run(**beside(hub, liar)) as mirror:
        before = await mirror.blob(LIAR, secret.layers[0].digest, "HEAD")
        await pulled(mirror, secret)
        after = await mirror.blob(LIAR, secret.layers[0].digest, "HEAD")
        assert before.cache == after.cache


async def test_who_has_a_part_is_asked_for_the_same_bytes_again_and_again(
    hub: Hub, run: Run, secret: Image
) -> None:
    async with lying(secret, "nothing") as liar, run(**beside(hub, liar)) as mirror:
        await pulled(mirror, secret)
        for _ in range(3):
            assert (await mirror.blob(LIAR, secret.layers[0].digest)).status == 503
        asked = [re.findall(r"(?i)range: .*", head) for head in liar.heads if "/blobs/" in head]
        assert asked[0]
        assert {each[0] for each in asked if each} == {asked[0][0]}  # the whole proves, too


async def test_a_manifest_is_not_given_for_a_tag_that_names_it(
    hub: Hub, run: Run, secret: Image
) -> None:
    async with lying(secret) as liar, run(**beside(hub, liar)) as mirror:
        await pulled(mirror, secret)
        for reference in ("latest", secret.digest):
            for method in ("HEAD", "GET", "GET"):
                got = await mirror.manifest(LIAR, reference, method)
                assert got.status == 200 if method == "HEAD" else got.status == 502
        await unharmed(hub, mirror, secret)


async def test_an_index_of_a_liar_leads_to_no_manifest_of_others(
    hub: Hub, run: Run, secret: Image
) -> None:
    async with Hub() as other, lying(secret) as liar:
        other.add(make_index([secret]), "a/b", "latest")
        other.repositories.make("a/b").manifests.pop(secret.digest)
        settings = beside(hub, liar)
        settings["upstreams"] |= {"liar.example": {"url": other.url}}  # type: ignore[operator]
        async with run(**settings) as mirror:
            await pulled(mirror, secret)
            assert (await mirror.manifest(LIAR, "latest")).status == 200
            assert (await mirror.manifest(LIAR, secret.digest)).status == 404


async def test_a_manifest_on_its_way_is_not_given_to_who_only_claims_it(
    hub: Hub, run: Run, secret: Image
) -> None:
    go = asyncio.Event()
    hub.faults.add(Fault(kind="manifest", method="GET", hang=True, until=go))
    async with lying(secret) as liar, run(**beside(hub, liar)) as mirror:
        path = f"/v2/{SECRET}/manifests/{secret.digest}"
        owner = asyncio.create_task(mirror.ask(path, **FRIEND))
        await hub.seen(lambda seen: seen.kind == "manifest" and seen.method == "GET")
        assert (await mirror.manifest(LIAR, secret.digest)).status == 502
        go.set()
        assert (await owner).body == secret.manifest


async def left_behind(hub: Hub, run: Run, blob: Blob, settings: dict[str, object]) -> None:
    """Have a mirror stop midway."""
    hub.faults.add(Fault(kind="blob", method="GET", stall_after=2_000_000))
    path = f"/v2/{SECRET}/blobs/{blob.digest}"
    patient = settings | {"silence_timeout": 30}  # the rest is not asked for before it stops
    async with run(**patient) as mirror, mirror.request(path, headers=FRIEND) as cut:
        await cut.content.readexactly(1_500_000)


async def got_of(mirror: Mirror, blob: Blob) -> bytes:
    """Return all that a stranger gets of a blob in the liar's name, its errors aside."""
    async with mirror.request(f"/v2/{LIAR}/blobs/{blob.digest}") as response:
        got = b""
        with contextlib.suppress(aiohttp.ClientPayloadError):
            while response.status < 400 and (piece := await response.content.readany()):
                got += piece
    return got


@pytest.mark.parametrize("way", ["other bytes", "half", "nothing", "no ranges"])
async def test_what_was_left_of_a_blob_is_not_given_to_who_only_claims_it(
    hub: Hub, run: Run, secret: Image, way: str
) -> None:
    layer = secret.layers[0]
    async with lying(secret, way) as liar:
        settings = beside(hub, liar)
        await left_behind(hub, run, layer, settings)
        async with run(**settings) as mirror:
            for _ in range(2):
                assert not (await got_of(mirror, layer)).strip(b"\0")
                await mirror.settled()
            got = await mirror.ask(f"/v2/{SECRET}/blobs/{layer.digest}", **FRIEND)
    assert got.body == layer.read()
    assert hub.blob_bytes(layer.digest) <= 1.1 * SIZE


@pytest.mark.parametrize("way", ["other bytes", "no end"])
async def test_a_running_fetch_is_neither_followed_nor_delayed_by_a_stranger(
    hub: Hub, run: Run, secret: Image, way: str
) -> None:
    layer = secret.layers[0]
    path = f"/v2/{SECRET}/blobs/{layer.digest}"
    go = asyncio.Event()
    hub.faults.add(Fault(kind="blob", method="GET", stall_after=2_000_000, until=go))
    async with lying(secret, way) as liar, run(**patient(hub, liar)) as mirror:
        async with mirror.request(path, headers=FRIEND) as owner:
            first = await owner.content.readexactly(1_500_000)
            stranger = asyncio.create_task(got_of(mirror, layer))
            await liar.asked()
            go.set()
            assert first + await owner.read() == layer.read()
        liar.held.set()
        assert not (await stranger).strip(b"\0")
        await mirror.settled()
        assert (await mirror.ask(path, **FRIEND)).cache == "hit"


async def test_a_liar_that_sends_first_keeps_nobody_from_the_blob(
    hub: Hub, run: Run, secret: Image
) -> None:
    layer = secret.layers[0]
    path = f"/v2/{SECRET}/blobs/{layer.digest}"
    async with lying(secret, "no end") as liar, run(**patient(hub, liar)) as mirror:
        stranger = asyncio.create_task(got_of(mirror, layer))
        await liar.asked()
        assert (await mirror.ask(path, **FRIEND)).body == layer.read()
        liar.held.set()
        await stranger
        await mirror.settled()
        assert not mirror.stored.promised
        assert (await mirror.ask(path, **FRIEND)).cache == "hit"


# Those that tell the truth


@pytest.fixture
async def twin(image: Image) -> AsyncIterator[Hub]:
    """Another registry, which has the same image as `org/app:latest`."""
    async with Hub() as twin:
        twin.add(image, "org/app", "latest")
        yield twin


@pytest.fixture
def large(hub: Hub, twin: Hub) -> Blob:
    """A layer that both have, too large to be fetched without a client."""
    image = make_image(9, [24_000_000])
    hub.add(image, OWN, "large")
    twin.add(image, "org/app", "large")
    return image.layers[0]


def two(hub: Hub, twin: Hub) -> dict[str, object]:
    """Configure both."""
    return {"upstreams": {"docker.io": {"url": hub.url}, "twin.example": {"url": twin.url}}}


OWN, THERE = "library/nginx", "twin.example/org/app"
Cheat = Callable[[Hub], None]


async def pull_there(mirror: Mirror, image: Image) -> list[Got]:
    """Pull from the twin; fails unless all of it is right."""
    await mirror.pull(THERE, "latest", image)
    return [await mirror.blob(THERE, blob.digest) for blob in image.blobs]


async def test_what_two_upstreams_have_is_fetched_once_and_warm_in_both(
    hub: Hub, twin: Hub, run: Run, image: Image
) -> None:
    async with run(**two(hub, twin), tag_ttl=3600) as mirror:
        await mirror.pull(OWN, "latest", image)
        await pull_there(mirror, image)
        assert twin.pulls == 1
        for blob in image.blobs:
            assert twin.blob_bytes(blob.digest) <= SPAN
            assert twin.bodies(blob.digest) == 1
        twin.journal.clear()
        hub.journal.clear()
        assert {got.cache for got in await pull_there(mirror, image)} == {"hit"}
        await mirror.pull(OWN, "latest", image)
    await twin.down()
    async with run(**two(hub, twin), tag_ttl=3600) as mirror:
        await pull_there(mirror, image)
    assert twin.requests == hub.requests == []


async def test_many_that_ask_at_once_are_one_question(
    hub: Hub, twin: Hub, run: Run, image: Image
) -> None:
    layer = image.layers[-1]
    async with run(**two(hub, twin)) as mirror:
        await mirror.pull(OWN, "latest", image)
        got = await asyncio.gather(*(mirror.blob(THERE, layer.digest) for _ in range(20)))
    assert {each.body for each in got} == {layer.read()}
    assert twin.bodies(layer.digest) == 1


async def test_an_upstream_without_ranges_may_show_it_by_all_of_it(
    hub: Hub, twin: Hub, run: Run, image: Image
) -> None:
    twin.faults.add(Fault(kind="blob", method="GET", ignore_range=True, times=None))
    async with run(**two(hub, twin)) as mirror:
        await mirror.pull(OWN, "latest", image)
        await pull_there(mirror, image)


async def test_who_has_the_beginning_of_a_blob_spoils_none_of_what_was_left(
    hub: Hub, twin: Hub, run: Run, large: Blob
) -> None:
    hub.faults.add(Fault(kind="blob", method="GET", stall_after=8_000_000))
    twin.faults.add(Fault(kind="blob", method="GET", corrupt_at=large.size - 9, times=None))
    async with run(**two(hub, twin), abandon_after=0) as mirror:
        await left_by_its_client(mirror, large)
        before = mirror.stored.used
        with contextlib.suppress(aiohttp.ClientPayloadError):
            assert (await mirror.blob(THERE, large.digest)).status == 502
        await mirror.settled()
        assert (mirror.stored.used, len(mirror.folder.partials())) == (before, 1)
        assert (await mirror.blob(OWN, large.digest)).body == large.read()
    assert hub.blob_bytes(large.digest) <= 1.3 * large.size


async def test_what_one_upstream_left_is_copied_for_another_that_has_it(
    hub: Hub, twin: Hub, run: Run, large: Blob
) -> None:
    hub.faults.add(Fault(kind="blob", method="GET", stall_after=8_000_000))
    async with run(**two(hub, twin), abandon_after=0) as mirror:
        await left_by_its_client(mirror, large)
        assert (await mirror.blob(THERE, large.digest)).body == large.read()
        await mirror.settled()
        assert mirror.folder.partials() == []
        assert not mirror.stored.unfinished
        assert not mirror.stored.promised
        assert (await mirror.blob(THERE, large.digest)).cache == "hit"
    assert twin.blob_bytes(large.digest) <= 0.9 * large.size


async def left_by_its_client(mirror: Mirror, layer: Blob) -> None:
    """Have a fetch be stopped midway, with a good part of the layer fetched."""
    async with mirror.request(f"/v2/{OWN}/blobs/{layer.digest}") as leaver:
        await leaver.content.readexactly(4_000_000)
    await mirror.settled()


async def test_what_one_upstream_left_is_gone_on_with_from_another_that_has_it(
    hub: Hub, twin: Hub, run: Run, image: Image
) -> None:
    layer = image.layers[-1]
    hub.faults.add(Fault(kind="blob", method="GET", stall_after=1_500_000))
    path = f"/v2/{OWN}/blobs/{layer.digest}"
    async with run(**two(hub, twin)) as mirror, mirror.request(path) as cut:
        await cut.content.readexactly(1_000_000)
    async with run(**two(hub, twin)) as mirror:
        assert (await mirror.blob(THERE, layer.digest)).body == layer.read()
    assert hub.blob_bytes(layer.digest) + twin.blob_bytes(layer.digest) <= 1.2 * layer.size


async def test_two_upstreams_that_send_the_same_at_once_leave_one_file(
    hub: Hub, twin: Hub, run: Run, image: Image
) -> None:
    layer = image.layers[-1]
    async with run(**two(hub, twin)) as mirror:
        for _ in range(2):
            asked = [mirror.blob(name, layer.digest) for name in (OWN, THERE) * 5]
            assert {got.body for got in await asyncio.gather(*asked)} == {layer.read()}
            await mirror.settled()
        assert [hub.bodies(layer.digest), twin.bodies(layer.digest)] == [1, 1]
        assert mirror.folder.partials() == []
        assert not mirror.stored.promised
        assert mirror.stored.failures == 0


async def test_one_digest_is_one_pull_of_each_upstream(
    hub: Hub, twin: Hub, run: Run, image: Image
) -> None:
    twin.add(image, "org/other", "latest")
    names = (OWN, THERE, "twin.example/org/other")
    async with run(**two(hub, twin)) as mirror:
        for _ in range(2):
            asked = [mirror.manifest(name, image.digest) for name in names * 3]
            assert {got.body for got in await asyncio.gather(*asked)} == {image.manifest}
    assert [hub.pulls, twin.pulls] == [1, 1]


async def test_neither_a_start_nor_another_name_draws_another_place(
    hub: Hub, run: Run, secret: Image, tmp_path: Path
) -> None:
    """An upstream with a part of a blob has one attempt at the proof."""
    layer = secret.layers[0]
    async with lying(secret, "nothing") as liar:
        settings = beside(hub, liar)
        settings["upstreams"] |= {"second.example": {"url": liar.url}}  # type: ignore[operator]
        async with run(**settings) as mirror:
            await pulled(mirror, secret)
        for _ in range(2):
            async with run(**settings) as mirror:
                for name in (LIAR, "second.example/a/b"):
                    assert (await mirror.blob(name, layer.digest)).status == 503
    asked = [re.findall(r"(?i)range: (.*)\r", head) for head in liar.heads if "/blobs/" in head]
    places = [each[0] for each in asked if each]
    assert len(places) >= 4
    assert len(set(places)) == 1
    key = tmp_path / "data" / "key"
    assert (key.stat().st_mode & 0o777, key.stat().st_size) == (0o600, 32)


@pytest.mark.parametrize("kept", [b"", b"short", None])
def test_a_key_that_is_damaged_is_made_anew(tmp_path: Path, kept: bytes | None) -> None:
    if kept is None:
        assert len(folder_key(tmp_path)) == 32
    else:
        (tmp_path / "key").write_bytes(kept)
    assert folder_key(tmp_path) == folder_key(tmp_path)
    (tmp_path / "key").unlink()
    (tmp_path / "key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError):
        folder_key(tmp_path)


@pytest.mark.parametrize("kept", [b"", b"short", b"x" * 33])
def test_a_damaged_key_is_told_of_with_what_it_costs(
    tmp_path: Path, kept: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "key").write_bytes(kept)
    folder_key(tmp_path)
    folder_key(tmp_path)
    [told] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert str(tmp_path / "key") in told
    assert "proofs of possession begin anew" in told


def test_a_first_key_is_no_matter_for_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder_key(tmp_path)
    assert not caplog.records


def test_the_name_of_a_new_key_outlives_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is synchronised when the key already has its name there."""
    named: list[bool] = []
    fsync = os.fsync

    def observed(descriptor: int) -> None:
        if os.path.samestat(os.fstat(descriptor), tmp_path.stat()):
            named.append((tmp_path / "key").exists())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", observed)
    folder_key(tmp_path)
    assert named == [True]
