"""Tag lists: short ones whole, long ones streamed, and pages cut for upstreams without paging."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TypeAlias
from weakref import WeakValueDictionary

from mirror.content.blobs.sinks import Sink
from mirror.content.outcome import Outcome
from mirror.oci.errors import (
    ManifestUnknown,
    NameUnknown,
    UpstreamMisbehaved,
    UpstreamUnavailable,
)
from mirror.oci.names import Repository
from mirror.oci.paging import MAX_PAGE, Paging
from mirror.oci.taglist import PIECE, TagReader
from mirror.upstream.client import RegistryClient
from mirror.upstream.pages import ListingPageBody
from mirror.upstream.transport import Size

_WHOLE = 4 * 1024 * 1024  # bytes of a list that is cached; longer lists are streamed
_STREAMS = 32  # concurrent streams: each holds a mebibyte of memory, for reading ahead
_EACH = 8  # streams of one client, which may read them as slowly as it likes
_PAUSE = 5  # seconds


@dataclass(frozen=True, slots=True)
class TagList:
    """A list as JSON, with its tags at `tags`; `following` is the next page, None at the end.

    The tags are in quotes, separated by commas. A list may have 4 MiB, and many clients may ask for
    pages of it at once: no page is cut by copying the list.
    """

    body: bytes
    tags: slice
    following: Paging | None = None

    @property
    def length(self) -> int:
        """The size of the tags in bytes."""
        return _length(self.tags)


class TagStream:
    """A list that upstream is sending, for one client; to be closed after sending, or instead."""

    outcome = Outcome.MISS

    def __init__(
        self, page: ListingPageBody, pieces: AsyncIterator[bytes], begun: bytes, held: ExitStack
    ) -> None:
        self.following = page.following
        self._pieces = pieces
        self._begun = begun
        self._held = held

    async def send(self, sink: Sink) -> None:
        """Send the whole list; raises RegistryError if it cannot be completed."""
        await sink.data(self._begun)
        async for piece in self._pieces:
            if piece:
                await sink.data(piece)

    def close(self) -> None:
        """Release upstream's connection."""
        self._held.close()


Tags: TypeAlias = TagList | TagStream


class TagLists:
    """Asks upstreams for tags. `left_out` counts the entries that are no tags, by upstream.

    At most `streams` long lists are sent at once.
    """

    def __init__(self, registries: dict[str, RegistryClient], streams: int = _STREAMS) -> None:
        self.left_out: Counter[str] = Counter()
        self._registries = registries
        self._streams = asyncio.Semaphore(streams)
        self._reading = asyncio.Lock()  # one piece of all lists per turn of the event loop
        self._of_client: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def whole(self, repository: Repository, paging: Paging) -> TagList | None:
        """Ask for a page; `None` if it is too long to be cached, or arrives too slowly.

        Raises NameUnknown, Denied, or UpstreamFailure.
        """
        registry = self._registries[repository.upstream]
        reader, body = TagReader(repository.name), bytearray()
        with closing(await _open(registry, repository, paging)) as page:
            try:
                async with asyncio.timeout(registry.timeouts.silence_timeout):
                    async for piece in _pieces(page, reader, self._reading):
                        body += piece
                        if len(body) > _WHOLE:
                            return None
            except TimeoutError:
                return None
            finally:
                self._count(repository, reader)
            following = _following(page, paging, empty=not _length(reader.tags))
            return TagList(bytes(body), reader.tags, following)

    async def stream(self, repository: Repository, paging: Paging, client: str) -> TagStream:
        """Ask for a long page, for a client; returns once its beginning has proved to be a list's.

        Raises NameUnknown, Denied, or UpstreamFailure.
        """
        registry = self._registries[repository.upstream]
        with ExitStack() as held:
            held.enter_context(registry.leases.held())
            await self._turn(registry.timeouts.answer_timeout, client, held)
            page = await _open(registry, repository, paging, long=True)
            held.callback(page.close)
            _following(page, paging, empty=False)
            reader = TagReader(repository.name)
            held.callback(self._count, repository, reader)
            pieces = _pieces(page, reader, self._reading)
            begun = bytearray()
            async for piece in pieces:
                begun += piece
                if len(begun) > PIECE:
                    break
            return TagStream(page, pieces, bytes(begun), held.pop_all())

    async def _turn(self, answer_timeout: float, client: str, held: ExitStack) -> None:
        """Wait for a place, the client's own first: that wait holds no place of other clients.

        The places are given back when `held` is closed.
        """
        own = self._of_client.setdefault(client, asyncio.Semaphore(_EACH))
        try:
            async with asyncio.timeout(answer_timeout):
                for places in (own, self._streams):
                    await places.acquire()
                    held.callback(places.release)
        except TimeoutError:
            text = "too many long lists of tags are being sent"
            raise UpstreamUnavailable(text, retry_after=_PAUSE) from None

    def _count(self, repository: Repository, reader: TagReader) -> None:
        self.left_out[repository.upstream] += reader.left_out


async def _pieces(
    page: ListingPageBody, reader: TagReader, reading: asyncio.Lock
) -> AsyncIterator[bytes]:
    """Yield the pieces of a page; other tasks run between any two, even with many lists."""
    try:
        while data := await page.read():
            for start in range(0, len(data), PIECE):
                async with reading:
                    piece = reader.feed(data[start : start + PIECE])
                    await asyncio.sleep(0)
                yield piece
        yield reader.finish()
    except ValueError as error:
        text = f"upstream's list of tags is not understood: {error}"
        raise UpstreamMisbehaved(text) from None


async def _open(
    registry: RegistryClient, repository: Repository, paging: Paging, *, long: bool = False
) -> ListingPageBody:
    size: Size = "large" if long else "small"
    try:
        return await registry.open_page("tags", repository.name, "tags/list", paging, size)
    except ManifestUnknown as error:
        raise NameUnknown(error.message) from None


def _following(page: ListingPageBody, asked: Paging, *, empty: bool) -> Paging | None:
    """Return the next page; raises UpstreamMisbehaved if it is the same one, without end."""
    following = page.following
    if following is None or following.fields != asked.fields:
        return following
    if not empty:
        raise UpstreamMisbehaved("upstream's Link leads to the page that it is on")
    return None


def _length(part: slice) -> int:
    length: int = part.stop - part.start
    return length


# Pages of lists without paging


def of_tags(name: str, tags: Iterable[str], following: Paging | None = None) -> TagList:
    """Return a list of these tags."""
    return _written(name, ",".join(f'"{tag}"' for tag in tags).encode(), following)


def behind(listed: TagList, last: str) -> slice | None:
    """Find the tags after `last`; `None` if the list does not have it, or upstream has pages."""
    if not last:
        return listed.tags
    name = f'"{last}"'.encode()
    start = listed.body.find(name, listed.tags.start, listed.tags.stop)
    if start < 0:
        return None
    return slice(min(start + len(name) + 1, listed.tags.stop), listed.tags.stop)


def paged(listed: TagList, repository: Repository, paging: Paging) -> TagList:
    """Cut the requested page from the list of an upstream that ignores `n` and `last`.

    Pages of an upstream with paging are passed on as they are, except a full page of the maximum
    size: more tags may follow, and a Link is optional (distribution-spec, "Listing Tags").
    """
    count = paging.count
    if count is None or listed.following is not None or not paging.plain:
        return listed
    part = behind(listed, paging.last)
    page, number = _begin(listed, listed.tags if part is None else part, count)
    more = page.stop < listed.tags.stop
    if more and part is None:
        return listed
    following = None
    if more or number == MAX_PAGE:
        last = listed.body[listed.body.rfind(b'"', page.start, page.stop - 1) + 1 : page.stop - 1]
        following = paging.behind(last.decode())
    if following is None and page == listed.tags:
        return listed
    return _written(repository.name, listed.body[page], following)


def _begin(listed: TagList, part: slice, count: int) -> tuple[slice, int]:
    """Return the first `count` tags of a part, all if it has fewer, and their number."""
    if part.start == part.stop:
        return part, 0
    comma = part.start - 1
    for number in range(1, count + 1):
        comma = listed.body.find(b",", comma + 1, part.stop)
        if comma < 0:
            return part, number
    return slice(part.start, comma), count


def _written(name: str, names: bytes, following: Paging | None) -> TagList:
    before = f'{{"name":{json.dumps(name)},"tags":['.encode()
    tags = slice(len(before), len(before) + len(names))
    return TagList(before + names + b"]}", tags, following)
