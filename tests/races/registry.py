"""Upstreams in virtual time: each answers late, and with a failure where the play has them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from mirror.oci.digest import Digest
from mirror.oci.errors import (
    BlobUnknown,
    ManifestUnknown,
    UpstreamFailure,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from mirror.oci.manifest import Hint, Manifest
from mirror.oci.names import Reference, Repository
from mirror.upstream.blob_source import WantedBytes
from mirror.upstream.leases import Leases
from mirror.upstream.telemetry import Observer, UpstreamResponse
from tests.races.world import World

_PIECE = 32 * 1024  # bytes that arrive together

Late = Callable[[str], Awaitable[None]]


@dataclass(frozen=True)
class Trouble:
    """The share of answers that fail; `share` draws by the label of a request."""

    often: float
    share: Callable[[str], float]

    def strike(self, label: str) -> None:
        """Raise UpstreamFailure for the drawn share of requests."""
        drawn = self.share(f"trouble {label}")
        if drawn < self.often / 2:
            raise UpstreamUnavailable("upstream is away")
        if drawn < self.often:
            raise UpstreamTimeout("upstream is silent")


@dataclass(frozen=True)
class Named:
    """The name and address of an upstream."""

    name: str
    url: str


class Body:
    """A blob's bytes as they arrive."""

    def __init__(self, content: bytes, start: int, stop: int, late: Late, label: str) -> None:
        self.start = start
        self.size: int | None = len(content)
        self._content = content
        self._at, self._stop = start, stop
        self._late, self._label = late, label
        self.trouble: Trouble | None = None

    async def read(self) -> bytes:
        """Return the next bytes; raises UpstreamFailure."""
        if self._at >= self._stop:
            return b""
        await self._late(self._label)
        if self.trouble is not None:
            self.trouble.strike(self._label)
        piece = self._content[self._at : min(self._at + _PIECE, self._stop)]
        self._at += len(piece)
        return piece


class Upstream:
    """One upstream with the methods of `Registry`; `late` delays its answers."""

    resume_timeout = 2.0
    received = 0
    down = 0

    def __init__(self, name: str, world: World, late: Late, trouble: Trouble) -> None:
        self.origin = Named(name, f"http://{name}")
        self.leases = Leases()
        self._world = world
        self._wait = late
        self._trouble = trouble

    def _home(self, name: str) -> Repository:
        return Repository(self.origin.name, name)

    async def _late(self, label: str) -> None:
        await self._wait(label)
        self._trouble.strike(label)

    def _grant(self, repository: Repository, digest: Digest) -> bool:
        """Tell whether upstream has this, and note a yes."""
        if not self._world.has(repository, digest):
            return False
        self._world.granted.add((repository, digest))
        return True

    async def head_blob(self, name: str, digest: Digest) -> int | None:
        """Answer a HEAD of a blob, which tells its size or nothing."""
        try:
            return await self.find_blob(name, digest)
        except (BlobUnknown, UpstreamFailure):
            return None

    async def find_blob(self, name: str, digest: Digest, size: int | None = None) -> int:
        """Answer a HEAD of a blob; raises BlobUnknown, UpstreamFailure."""
        label = f"HEAD {self.origin.name} {name} {digest[7:15]}"
        await self._late(label)
        if not self._grant(self._home(name), digest):
            raise BlobUnknown(f"upstream has no {digest} in {name}")
        return len(self._world.body(digest))

    @asynccontextmanager
    async def open_blob(
        self,
        name: str,
        digest: Digest,
        wanted: WantedBytes,
        whole_after: tuple[type[UpstreamFailure], ...] = (),
    ) -> AsyncIterator[Body]:
        """Answer a GET of a blob; raises BlobUnknown, UpstreamFailure."""
        label = f"GET {self.origin.name} {name} {digest[7:15]}"
        await self._late(label)
        if not self._grant(self._home(name), digest):
            raise BlobUnknown(f"upstream has no {digest} in {name}")
        content = self._world.body(digest)
        stop = len(content) if wanted.stop is None else min(wanted.stop, len(content))
        body = Body(content, wanted.start, stop, self._wait, f"body {label}")
        body.trouble = self._trouble
        yield body

    @property
    def answers_heads(self) -> bool:
        """Whether HEADs are answered: a play has no circuit breaker."""
        return True

    async def hint(
        self,
        name: str,
        reference: Reference,
        observe: Observer,
        *,
        insist: bool = False,
    ) -> Hint:
        """Answer a HEAD of a manifest; raises UpstreamFailure."""
        await self._late(f"HEAD {self.origin.name} {name}:{str(reference)[:15]}")
        found = self._find(name, reference)
        if found is None:
            return Hint(missing=True)
        named = found.descriptor
        return Hint(named.digest, named.media_type, named.size)

    async def get_manifest(
        self,
        name: str,
        reference: Reference,
        observe: Observer,
        *,
        retry_as: Reference | None = None,
    ) -> Manifest:
        """Answer a GET of a manifest, which is counted; raises ManifestUnknown, UpstreamFailure."""
        label = f"GET {self.origin.name} {name}:{str(reference)[:15]}"
        await self._late(label)
        found = self._find(name, reference)
        if found is None:
            raise ManifestUnknown(f"upstream has no {name}:{reference}")
        self._world.counted.append((self.origin.name, str(reference)))
        upstream, of = self.origin.name, (name, str(reference))
        observe(UpstreamResponse(upstream, "", "manifest", "GET", 200, 0.0, *of))
        await self._wait(f"body {label}")
        return found

    def _find(self, name: str, reference: Reference) -> Manifest | None:
        home = self._home(name)
        if home not in self._world.homes:  # a made-up name
            return None
        if not isinstance(reference, Digest):
            reference = self._world.homes[home].tagged
        if reference not in self._world.manifests or not self._grant(home, reference):
            return None
        return self._world.manifests[reference]
