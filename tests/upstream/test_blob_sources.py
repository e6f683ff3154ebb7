"""The promises of every source of blobs: an upstream registry, and the one in memory for tests."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import pytest
from yarl import URL

from mirror.oci.digest import Digest
from mirror.oci.errors import (
    BlobUnknown,
    Denied,
    RangeRefused,
    UpstreamFailure,
    UpstreamMisbehaved,
)
from mirror.upstream.auth.credentials import Credentials
from mirror.upstream.auth.factory import LoginSettings, origin
from mirror.upstream.auth.tokens import Tokens
from mirror.upstream.blob_source import BlobSource, BlobStream, WantedBytes
from mirror.upstream.client import RegistryClient
from mirror.upstream.transport import Transport
from tests.standin import Blob, Fault, Hub, Terms
from tests.support.memory_source import MemorySource

NAME, OTHER = "org/app", "org/other"
CONTENT = random.Random(7).randbytes(300_000)
DIGEST = Digest.of(CONTENT)
MISSING = Digest.of(b"missing")


class Place(Protocol):
    """A source, and the means of a test to change it."""

    @property
    def source(self) -> BlobSource:
        """The source under test."""

    def add(self, repository: str, content: bytes) -> None:
        """Give a repository a blob."""

    def deny(self, repository: str) -> None:
        """Deny access to a repository."""

    def refuse_ranges(self) -> None:
        """Answer every range with an error."""

    def cut(self, after: int) -> None:
        """Break the next body off after some bytes."""


class InMemory:
    """The source in memory, which runs in the test."""

    def __init__(self) -> None:
        self.source = MemorySource()

    def add(self, repository: str, content: bytes) -> None:
        """Give a repository a blob."""
        self.source.add(repository, content)

    def deny(self, repository: str) -> None:
        """Deny access to a repository."""
        self.source.denied.add(repository)

    def refuse_ranges(self) -> None:
        """Answer every range with an error."""
        self.source.ranges = False

    def cut(self, after: int) -> None:
        """Break the next body off after some bytes."""
        self.source.cuts.append(after)


class Upstream:
    """A registry with tokens, and with or without a content network that it redirects to."""

    def __init__(self, hub: Hub, source: RegistryClient) -> None:
        self._hub = hub
        self.source = source

    def add(self, repository: str, content: bytes) -> None:
        """Give a repository a blob."""
        blob = Blob.of(content)
        self._hub.repositories.make(repository).blobs[blob.digest] = blob

    def deny(self, repository: str) -> None:
        """Deny access to a repository."""
        self._hub.faults.add(Fault(kind="blob", repository=repository, status=403, times=None))
        self._hub.faults.add(
            Fault(kind="blob", repository=repository, port="registry", status=403, times=None)
        )

    def refuse_ranges(self) -> None:
        """Answer every range with an error."""
        self._hub.faults.add(
            Fault(kind="blob", status=400, match=lambda seen: seen.range is not None, times=None)
        )

    def cut(self, after: int) -> None:
        """Break the next body off after some bytes."""
        self._hub.faults.add(Fault(kind="blob", cut_after=after))


@asynccontextmanager
async def upstream(terms: Terms) -> AsyncIterator[Upstream]:
    """Run a registry, and a client for it."""
    async with Hub(terms) as hub:
        own = URL(hub.url)
        ways = LoginSettings("auto", Credentials("", ""), None, None, (), "")
        async with Transport(own) as transport:
            tokens = Tokens(transport, lambda _: None)
            named = origin("docker.io", own, ways)
            client = RegistryClient(named, transport, tokens, lambda _: None)
            yield Upstream(hub, client)
            await client.close()
            await tokens.close()


@pytest.fixture(params=["memory", "registry", "registry with tokens and redirects"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """A source that has one blob in one repository, and another repository."""
    if request.param == "memory":
        memory = InMemory()
        memory.add(NAME, CONTENT)
        memory.add(OTHER, b"something else")
        yield memory
        return
    plain = Terms(auth="none", redirect=False)
    async with upstream(plain if request.param == "registry" else Terms()) as asked:
        asked.add(NAME, CONTENT)
        asked.add(OTHER, b"something else")
        yield asked


async def read(stream: BlobStream) -> bytes:
    """Read the body to its end."""
    body = bytearray()
    while data := await stream.read():
        body += data
    assert await stream.read() == b""
    return bytes(body)


async def test_a_whole_blob_arrives_from_its_first_byte(place: Place) -> None:
    async with place.source.open_blob(NAME, DIGEST, WantedBytes()) as stream:
        assert (stream.start, stream.size) == (0, len(CONTENT))
        assert await read(stream) == CONTENT


@pytest.mark.parametrize("stop", [None, 200_000])
async def test_a_range_arrives_from_the_start_that_the_stream_names(
    place: Place, stop: int | None
) -> None:
    wanted = WantedBytes(100_000, stop, len(CONTENT))
    async with place.source.open_blob(NAME, DIGEST, wanted) as stream:
        assert stream.start in (0, 100_000)
        assert stream.size == len(CONTENT)
        body = await read(stream)
    assert body[100_000 - stream.start :][: (stop or 300_000) - 100_000] == CONTENT[100_000:stop]


async def test_a_size_is_told_and_hinted(place: Place) -> None:
    assert await place.source.find_blob(NAME, DIGEST) == len(CONTENT)
    assert await place.source.find_blob(NAME, DIGEST, len(CONTENT)) == len(CONTENT)
    assert await place.source.head_blob(NAME, DIGEST) in (None, len(CONTENT))


async def test_another_size_than_the_known_one_decides_nothing(place: Place) -> None:
    with pytest.raises(UpstreamMisbehaved):
        await place.source.find_blob(NAME, DIGEST, len(CONTENT) + 1)


async def test_an_empty_blob_has_a_size(place: Place) -> None:
    place.add(NAME, b"")
    empty = Digest.of(b"")
    assert await place.source.find_blob(NAME, empty) == 0
    async with place.source.open_blob(NAME, empty, WantedBytes()) as stream:
        assert await read(stream) == b""


@pytest.mark.parametrize(("name", "digest"), [(NAME, MISSING), (OTHER, DIGEST)])
async def test_a_blob_is_unknown_where_it_is_not(place: Place, name: str, digest: Digest) -> None:
    with pytest.raises(BlobUnknown):
        await place.source.find_blob(name, digest)
    with pytest.raises(BlobUnknown):
        async with place.source.open_blob(name, digest, WantedBytes()):
            pass
    assert await place.source.head_blob(name, digest) is None


async def test_a_denial_is_no_missing_blob(place: Place) -> None:
    place.deny(OTHER)
    with pytest.raises(Denied):
        await place.source.find_blob(OTHER, DIGEST)
    with pytest.raises(Denied):
        async with place.source.open_blob(OTHER, DIGEST, WantedBytes()):
            pass
    assert await place.source.head_blob(OTHER, DIGEST) is None


async def test_a_refused_range_is_an_error_of_the_range(place: Place) -> None:
    place.refuse_ranges()
    wanted = WantedBytes(100_000, None, len(CONTENT))
    with pytest.raises(RangeRefused):
        async with place.source.open_blob(NAME, DIGEST, wanted):
            pass


async def test_behind_a_refused_range_the_whole_blob_arrives_if_asked_for(place: Place) -> None:
    place.refuse_ranges()
    wanted = WantedBytes(100_000, None, len(CONTENT))
    async with place.source.open_blob(NAME, DIGEST, wanted, (UpstreamFailure,)) as stream:
        assert stream.start == 0
        assert await read(stream) == CONTENT


async def test_a_body_that_breaks_off_is_no_end(place: Place) -> None:
    place.cut(after=100_000)
    body = bytearray()
    async with place.source.open_blob(NAME, DIGEST, WantedBytes()) as stream:
        with pytest.raises(UpstreamFailure):  # noqa: PT012 - breaks off after the bytes
            while data := await stream.read():
                body += data
    assert CONTENT.startswith(body)
    assert len(body) > 0


async def test_an_open_stream_is_activity_until_it_is_closed(place: Place) -> None:
    place.add(NAME, large := bytes(8_000_000))  # the rest has not been received yet
    async with place.source.open_blob(NAME, Digest.of(large), WantedBytes()) as stream:
        idle = asyncio.create_task(place.source.leases.over(0))
        assert await stream.read()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not idle.done()
        await read(stream)
    async with asyncio.timeout(5):
        await idle
