"""A fetch is shared across repositories, but not its refusals, nor its blob without a question."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import IO

import pytest

from mirror.oci.digest import Digest
from mirror.storage.blobs.files import BlobFiles
from tests.standin import Blob, Fault, Hub, Seen, make_image
from tests.support.mirror import Got, Mirror, Run

RIGHT, WRONG, PRIVATE, OTHER = "library/right", "library/wrong", "org/private", "org/other"
SIZE = 300_000


@pytest.fixture
def layer(hub: Hub) -> Blob:
    """A layer of one repository; the other repository exists without it."""
    hub.terms.redirect, hub.terms.auth = False, "none"
    image = make_image(31, [SIZE])
    hub.add(image, RIGHT, "latest")
    hub.add(make_image(32), WRONG, "latest")
    return image.layers[0]


def of(repository: str, method: str = "GET") -> Callable[[Seen], bool]:
    """Match the questions for blobs of a repository."""
    return lambda seen: (seen.kind, seen.repository, seen.method) == ("blob", repository, method)


def asked_for(digest: str) -> Callable[[Seen], bool]:
    """Match the questions for a blob in any repository."""
    return lambda seen: seen.reference == digest


async def both(hub: Hub, mirror: Mirror, layer: Blob, go: asyncio.Event) -> tuple[Got, Got]:
    """Ask in the wrong repository, and in the right one before the first is answered."""
    stranger = asyncio.create_task(mirror.blob(WRONG, layer.digest))
    await hub.seen(of(WRONG))
    honest = asyncio.create_task(mirror.blob(RIGHT, layer.digest))
    await hub.seen(lambda seen: seen.kind == "blob" and seen.repository == RIGHT)
    go.set()
    return await stranger, await honest


@pytest.mark.parametrize(("status", "told"), [(404, 404), (403, 403), (401, 403), (500, 503)])
async def test_a_refusal_is_for_the_repository_that_it_was_said_of(
    hub: Hub, run: Run, layer: Blob, status: int, told: int
) -> None:
    go = asyncio.Event()
    hub.faults.add(
        Fault(kind="blob", repository=WRONG, status=status, times=None, hang=True, until=go)
    )
    async with run() as mirror:
        for _ in range(2):
            stranger, honest = await both(hub, mirror, layer, go)
            assert (stranger.status, honest.status) == (told, 200)
            hub.journal.clear()
            go.clear()
            break
        assert (await mirror.blob(RIGHT, layer.digest)).cache == "hit"
    assert hub.bodies(layer.digest) <= 1


async def test_a_question_that_hangs_in_one_repository_holds_up_no_other(
    hub: Hub, run: Run, layer: Blob
) -> None:
    hub.faults.add(Fault(kind="blob", repository=WRONG, hang=True, times=None))
    async with run() as mirror:
        stranger = asyncio.create_task(mirror.blob(WRONG, layer.digest))
        await hub.seen(of(WRONG))
        async with asyncio.timeout(5):
            assert (await mirror.blob(RIGHT, layer.digest)).body == layer.read()
        stranger.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await stranger


async def test_a_registry_that_is_slow_everywhere_is_heard_out(
    hub: Hub, run: Run, layer: Blob
) -> None:
    """The answer takes longer than a client waits for the fetch of another repository."""
    names = [RIGHT, *(f"org/also{number}" for number in range(4))]
    for name in names[1:]:
        hub.add(make_image(31, [SIZE]), name, "latest")
    loop, slow = asyncio.get_running_loop(), list[str]()

    def late(seen: Seen) -> bool:
        """Let each GET wait for an event of the GET itself."""
        if (seen.kind, seen.method) == ("blob", "GET") and len(slow) < 20:
            slow.append(seen.repository or "")
            go = asyncio.Event()
            loop.call_later(2.5, go.set)
            hub.faults.add(Fault(method="GET", reference=layer.digest, hang=True, until=go))
        return False

    hub.faults.add(Fault(match=late, times=None))
    async with run() as mirror:
        first = asyncio.create_task(mirror.blob(RIGHT, layer.digest))
        await hub.seen(of(RIGHT))
        others = (mirror.blob(name, layer.digest) for name in names[1:])
        got = await asyncio.gather(first, *others)
    assert [each.status for each in got] == [200] * len(names)
    assert all(each.body == layer.read() for each in got)
    assert len(slow) <= 2  # one of a repository with a proof, one of a repository without


async def test_questions_of_strangers_everywhere_deny_the_blob_to_no_client(
    hub: Hub, run: Run
) -> None:
    hub.terms.redirect, hub.terms.auth = False, "none"
    image = make_image(33, [70_000 + number for number in range(20)])
    hub.add(image, RIGHT, "latest")
    wanted = image.layers[0].digest

    async def loop(name: int) -> None:
        for count in range(100_000):
            got = await mirror.blob(f"made/up{name}-{count}", wanted)
            assert got.status == 404

    async with run() as mirror:
        orphans = [asyncio.create_task(loop(name)) for name in range(4)]
        for layer in image.layers:
            wanted = layer.digest
            await hub.seen(asked_for(wanted), 4)
            async with asyncio.timeout(5):
                assert (await mirror.blob(RIGHT, wanted)).body == layer.read()
        for each in orphans:
            each.cancel()
        told = await asyncio.gather(*orphans, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in told), told


async def test_a_repository_that_denies_midway_cuts_no_follower_of_another(
    hub: Hub, run: Run, layer: Blob
) -> None:
    go = asyncio.Event()
    hub.add(make_image(31, [SIZE]), WRONG, "again")
    stalled = Fault(kind="blob", repository=WRONG, method="GET", stall_after=SIZE // 2, until=go)
    hub.faults.add(stalled)
    async with run() as mirror:
        stranger = asyncio.create_task(mirror.blob(WRONG, layer.digest))
        await hub.seen(of(WRONG))
        path = f"/v2/{RIGHT}/blobs/{layer.digest}"
        async with mirror.request(path) as honest:
            first = await honest.content.readexactly(SIZE // 4)
            hub.faults.add(Fault(kind="blob", repository=WRONG, status=404, times=None))
            await hub.ports["registry"].down()
            await hub.ports["registry"].up()
            async with asyncio.timeout(10):
                assert first + await honest.read() == layer.read()
        stranger.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await stranger


class SlowOpens:
    """Opens of stored files that wait, on their threads, until `go`."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = asyncio.Event()


@asynccontextmanager
async def slow_opens(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SlowOpens]:
    """Delay every open of a stored file."""
    slow, true, loop = SlowOpens(), BlobFiles.open, asyncio.get_running_loop()

    def late(files: BlobFiles, digest: Digest) -> IO[bytes]:
        loop.call_soon_threadsafe(slow.begun.set)
        slow.go.wait(10)
        return true(files, digest)

    monkeypatch.setattr(BlobFiles, "open", late)
    try:
        yield slow
    finally:
        slow.go.set()


async def test_a_blob_is_not_given_unasked_where_it_went_while_it_was_opened(
    hub: Hub, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blob that is evicted and refetched for another repository meanwhile belongs to that one."""
    hub.terms.redirect, hub.terms.auth = False, "none"
    image = make_image(34, [SIZE])
    hub.add(image, PRIVATE, "latest")
    hub.add(make_image(35), OTHER, "latest")
    [layer] = image.layers
    digest, go = Digest(layer.digest), asyncio.Event()
    async with run() as mirror:
        assert (await mirror.blob(PRIVATE, digest)).status == 200
        await mirror.settled()
        async with slow_opens(monkeypatch) as slow:
            stranger = asyncio.create_task(mirror.blob(OTHER, digest))
            asked = asyncio.create_task(hub.seen(of(OTHER)))
            begun = asyncio.create_task(slow.begun.wait())
            await asyncio.wait([asked, begun], return_when=asyncio.FIRST_COMPLETED, timeout=5)
            await mirror.stored.evict(digest)
            hub.faults.add(
                Fault(kind="blob", repository=PRIVATE, method="GET", stall_after=9000, until=go)
            )
            owner = asyncio.create_task(mirror.blob(PRIVATE, digest))
            await hub.seen(of(PRIVATE), 2)
            slow.go.set()
            assert (await stranger).status == 404
            go.set()
            assert (await owner).body == layer.read()
            asked.cancel()
            begun.cancel()
        await mirror.settled()
        assert mirror.stored.repositories(digest) == [PRIVATE]


async def test_a_request_in_a_wrong_repository_for_a_lost_file_denies_it_nowhere(
    hub: Hub, run: Run, layer: Blob
) -> None:
    digest = Digest(layer.digest)
    async with run() as mirror:
        for _ in range(10):
            assert (await mirror.blob(RIGHT, digest)).body == layer.read()
            await mirror.settled()
            mirror.folder.blob(digest).unlink()
            names = [f"{WRONG}{number}" for number in range(3)]
            asked = [*(mirror.blob(name, digest) for name in names), mirror.blob(RIGHT, digest)]
            got = await asyncio.gather(*asked)
            assert [each.status for each in got] == [404, 404, 404, 200]
