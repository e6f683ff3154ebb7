"""Lists of tags: a short one whole, a long one while it comes, a page of one that has no pages."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TypeAlias
from weakref import WeakValueDictionary

from mirror.cache.following import Sink
from mirror.cache.outcome import Outcome
from mirror.oci.errors import (
    ManifestUnknown,
    NameUnknown,
    UpstreamMisbehaved,
    UpstreamUnavailable,
)
from mirror.oci.names import Repository
from mirror.oci.paging import MAX_PAGE, Paging
from mirror.oci.taglist import PIECE, TagReader
from mirror.upstream.pages import PageBody
from mirror.upstream.registry import Registry
from mirror.upstream.wire import Size

_WHOLE = 4 * 1024 * 1024  # bytes of a list that is kept; longer ones are sent while they come
_STREAMS = 32  # of these at once: each holds a mebibyte of memory, of what is read ahead
_EACH = 8  # of them for one client: it may take them as slowly as it likes
_PAUSE = 5  # seconds


@dataclass(frozen=True, slots=True)
class TagList:
    """A list as JSON, the tags of it at `tags`; `following` is the next page, None at the end."""

    body: bytes
    tags: slice
    following: Paging | None = None

    @property
    def names(self) -> bytes:
        """The tags as they stand there: in quotes, a comma between them."""
        return self.body[self.tags]


class TagStream:
    """A list that upstream is sending, for one client. It is closed when it was sent, or not."""

    outcome = Outcome.MISS

    def __init__(
        self, page: PageBody, pieces: AsyncIterator[bytes], begun: bytes, held: ExitStack
    ) -> None:
        self.following = page.following
        self._pieces = pieces
        self._begun = begun
        self._held = held

    async def send(self, sink: Sink) -> None:
        """Send all of it; raises RegistryError where it cannot be completed."""
        await sink.data(self._begun)
        async for piece in self._pieces:
            if piece:
                await sink.data(piece)

    def close(self) -> None:
        """Let go of upstream's connection."""
        self._held.close()


Tags: TypeAlias = TagList | TagStream


class TagLists:
    """Asks upstreams for tags. `left_out` counts the entries that are none, by upstream.

    Of long lists `streams` are sent at once.
    """

    def __init__(self, registries: dict[str, Registry], streams: int = _STREAMS) -> None:
        self.left_out: Counter[str] = Counter()
        self._registries = registries
        self._streams = asyncio.Semaphore(streams)
        self._reading = asyncio.Lock()  # one piece of all lists between two turns of others
        self._of_client: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def whole(self, repository: Repository, paging: Paging) -> TagList | None:
        """Ask for a page; None where it is too long to be kept, or comes too slowly.

        Raises NameUnknown, Denied, or UpstreamFailure.
        """
        registry = self._registries[repository.upstream]
        reader, body = TagReader(repository.name), bytearray()
        with closing(await _open(registry, repository, paging)) as page:
            try:
                async with asyncio.timeout(registry.patience.silence):
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
        """Ask for a page that is long, for a client; its beginning has come, and is a list's.

        Raises NameUnknown, Denied, or UpstreamFailure.
        """
        registry = self._registries[repository.upstream]
        with ExitStack() as held:
            await self._turn(registry.patience.answer, client, held)
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

    async def _turn(self, patience: float, client: str, held: ExitStack) -> None:
        """Wait for a place, the client's own first: who waits for that holds none of the others'.

        The places are given back as `held` is let go.
        """
        own = self._of_client.setdefault(client, asyncio.Semaphore(_EACH))
        try:
            async with asyncio.timeout(patience):
                for places in (own, self._streams):
                    await places.acquire()
                    held.callback(places.release)
        except TimeoutError:
            text = "too many long lists of tags are being sent"
            raise UpstreamUnavailable(text, retry_after=_PAUSE) from None

    def _count(self, repository: Repository, reader: TagReader) -> None:
        self.left_out[repository.upstream] += reader.left_out


async def _pieces(page: PageBody, reader: TagReader, reading: asyncio.Lock) -> AsyncIterator[bytes]:
    """Read on, in pieces between which others have their turn, however many lists are read."""
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
    registry: Registry, repository: Repository, paging: Paging, *, long: bool = False
) -> PageBody:
    size: Size = "large" if long else "small"
    try:
        return await registry.open_page("tags", repository.name, "tags/list", paging, size)
    except ManifestUnknown as error:
        raise NameUnknown(error.message) from None


def _following(page: PageBody, asked: Paging, *, empty: bool) -> Paging | None:
    """Return the next page; raises UpstreamMisbehaved where it is this one again, without end."""
    following = page.following
    if following is None or following.fields != asked.fields:
        return following
    if not empty:
        raise UpstreamMisbehaved("upstream's Link leads to the page that it is on")
    return None


def _length(part: slice) -> int:
    length: int = part.stop - part.start
    return length


# Pages of what has none


def empty(name: str) -> TagList:
    """Return a list without tags."""
    return _written(name, b"", None)


def behind(listed: TagList, last: str) -> bytes | None:
    """Return the tags behind one of a list; None where it is not in it, or upstream pages."""
    names = listed.names
    if not last:
        return names
    _, found, rest = names.partition(f'"{last}"'.encode())
    return rest.removeprefix(b",") if found else None


def paged(listed: TagList, repository: Repository, paging: Paging) -> TagList:
    """Return as many tags as are wanted of an upstream that ignores how many, and behind which.

    The pages of one that has pages are passed on as they are, but for a full one of the longest
    that we ask for: there may be more, and a Link is a choice (distribution-spec, "Listing Tags").
    """
    count = paging.count
    if count is None or listed.following is not None or not paging.plain:
        return listed
    names = behind(listed, paging.last)
    parts = _split(listed.names if names is None else names, count)
    more = len(parts) > count
    if more and names is None:
        return listed
    following = None
    if more or len(parts) == MAX_PAGE:
        following = paging.behind(parts[count - 1].decode().strip('"'))
    if following is None and names == listed.names:
        return listed
    return _written(repository.name, b",".join(parts[:count]), following)


def _split(names: bytes, count: int) -> list[bytes]:
    """Return so many tags, and the others in one piece."""
    return names.split(b",", count) if names else []


def _written(name: str, names: bytes, following: Paging | None) -> TagList:
    before = f'{{"name":{json.dumps(name)},"tags":['.encode()
    tags = slice(len(before), len(before) + len(names))
    return TagList(before + names + b"]}", tags, following)
