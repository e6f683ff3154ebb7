"""A source of blobs in memory: for tests of all that fetches, without a registry or HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from mirror.oci.digest import Digest
from mirror.oci.errors import (
    BlobUnknown,
    Denied,
    RangeRefused,
    RegistryError,
    UpstreamFailure,
    UpstreamMisbehaved,
    UpstreamUnavailable,
)
from mirror.upstream.blob_source import WantedBytes
from mirror.upstream.leases import Leases

PIECE = 32 * 1024  # bytes that arrive together


@dataclass
class MemoryStream:
    """A blob's bytes; `fault` is raised behind them, `gate` holds up those from its position on."""

    content: bytes
    start: int
    stop: int
    size: int | None
    fault: UpstreamFailure | None = None
    gate: Gate | None = None

    def __post_init__(self) -> None:
        self._at = self.start

    async def read(self) -> bytes:
        """Return the next piece, empty at the end; raises the fault."""
        end = self.stop
        if self.gate is not None and not self.gate.open.is_set():
            if self._at >= self.gate.position:
                await self.gate.open.wait()
            else:
                end = min(end, self.gate.position)
        piece = self.content[self._at : min(self._at + PIECE, end)]
        self._at += len(piece)
        if not piece and self.fault is not None:
            raise self.fault
        await asyncio.sleep(0)
        return piece


@dataclass
class Gate:
    """A position from which on no byte arrives until it is open."""

    position: int
    open: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Asked:
    """A question to the source."""

    kind: str
    repository: str
    wanted: WantedBytes | None = None


@dataclass
class MemorySource:
    """Blobs by repository and digest, and the ways in which a source may fail.

    `failure` is raised in place of each blob. `cuts` are lengths, in bytes, after which the next
    bodies break off, one each; `sizes` are the sizes that the next bodies announce.
    """

    resume_timeout: float = 1.0
    leases: Leases = field(default_factory=Leases)
    blobs: dict[tuple[str, Digest], bytes] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    gate: Gate | None = None
    failure: RegistryError | None = None
    asked: list[Asked] = field(default_factory=list)

    def add(self, name: str, content: bytes) -> Digest:
        """Give a repository a blob; returns its digest."""
        digest = Digest.of(content)
        self.blobs[name, digest] = content
        return digest

    @property
    def opened(self) -> list[WantedBytes]:
        """The parts of blobs that were asked for, in their order."""
        return [each.wanted for each in self.asked if each.wanted is not None]

    def _find(self, name: str, digest: Digest) -> bytes:
        if self.failure is not None:
            raise self.failure.again()
        if name in self.denied:
            raise Denied("the source denies access")
        if (name, digest) not in self.blobs:
            raise BlobUnknown(f"the source has no {digest} in {name}")
        return self.blobs[name, digest]

    async def _ask(self, asked: Asked) -> None:
        self.asked.append(asked)
        await asyncio.sleep(0)

    async def head_blob(self, name: str, digest: Digest) -> int | None:
        """Return a blob's size, or None."""
        await self._ask(Asked("head", name))
        try:
            return len(self._find(name, digest))
        except RegistryError:
            return None

    async def find_blob(self, name: str, digest: Digest, size: int | None = None) -> int:
        """Return a blob's size; raises BlobUnknown, Denied, UpstreamMisbehaved."""
        await self._ask(Asked("find", name))
        found = len(self._find(name, digest))
        if size not in (None, found):
            raise UpstreamMisbehaved("the source's blob has another size")
        return found

    @asynccontextmanager
    async def open_blob(
        self,
        name: str,
        digest: Digest,
        wanted: WantedBytes,
        whole_after: tuple[type[UpstreamFailure], ...] = (),
    ) -> AsyncIterator[MemoryStream]:
        """Open a blob; raises BlobUnknown, Denied, RangeRefused."""
        with self.leases.held():
            await self._ask(Asked("open", name, wanted))
            content = self._find(name, digest)
            size = self.sizes.pop(0) if self.sizes else len(content)
            if wanted.range is not None and not (self.ranges and wanted.size in (None, size)):
                if not issubclass(RangeRefused, whole_after):
                    raise RangeRefused("the source serves no such range")
                wanted = WantedBytes()
            yield self._stream(content, wanted, size)

    def _stream(self, content: bytes, wanted: WantedBytes, size: int) -> MemoryStream:
        stop, fault = min(wanted.stop or len(content), len(content)), None
        if self.cuts:
            stop = min(stop, wanted.start + self.cuts.pop(0))
            fault = UpstreamUnavailable("the source broke off")
        return MemoryStream(content, wanted.start, stop, size, fault, self.gate)
