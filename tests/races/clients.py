"""Clients: each asks, reads at its pace, may leave, and compares the answer with the world."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from mirror.content.blobs.service import BlobService
from mirror.content.manifests.resolver import ManifestResolver
from mirror.oci.digest import Digest
from mirror.oci.errors import RegistryError
from mirror.oci.names import Reference, Repository, parse_reference
from mirror.oci.ranges import Span
from mirror.storage.blobs.protocol import BlobReader
from tests.races.life import Life
from tests.races.plan import Step
from tests.races.world import TAG, World

_READ = 48 * 1024  # bytes of one read
_LEAVES = 0.2  # share of a blob's clients that leave in the middle
_RANGES = 0.35  # share that leaves or asks for a range

Late = Callable[[str], Awaitable[None]]


@dataclass
class Sink:
    """Takes a body; a client that leaves resets its connection."""

    late: Late
    label: str
    leaves_at: int | None = None
    got: bytearray = field(default_factory=bytearray)
    gone: bool = False

    async def data(self, data: bytes | memoryview) -> None:
        """Take bytes."""
        self.got += data
        if self.leaves_at is not None and len(self.got) >= self.leaves_at:
            raise ConnectionResetError
        await self.late(f"client {self.label}")

    async def blob(self, reader: BlobReader, start: int, stop: int) -> None:
        """Take a blob's bytes, as its reader gives them."""
        while start < stop:
            piece = await reader.read(start, start + min(_READ, stop - start))
            if not piece:
                raise ConnectionResetError
            start += len(piece)
            await self.data(piece)


class Clients:
    """Clients that ask and judge. `wrong` notes a fault; with `sound`, upstream never fails."""

    def __init__(
        self, world: World, late: Late, wrong: Callable[[str, str], None], *, sound: bool
    ) -> None:
        self._world = world
        self._late = late
        self._wrong = wrong
        self._sound = sound
        self._newest: dict[Repository, int] = {}

    async def ask(self, step: Step, life: Life) -> None:
        """Send the request of a step, and judge the answer."""
        what = f"{step.kind} {step.repository.name} {step.digest[7:15]}"
        try:
            async with asyncio.timeout(300):
                await self._ask(step, life)
        except ConnectionResetError:
            return
        except RegistryError as error:
            self._judge_refusal(step, error)
        except TimeoutError:
            self._wrong("a client hangs", what)
        except asyncio.CancelledError:
            if not life.stopping:
                self._wrong("a client is cancelled", what)
            raise
        except Exception as error:  # noqa: BLE001 - any error is a finding
            self._wrong("an error nobody foresaw", f"{what}: {error!r}")

    async def _ask(self, step: Step, life: Life) -> None:
        match step.kind:
            case "blob":
                await self._blob(step, life.part(BlobService))
            case "head":
                size, _ = await life.part(BlobService).head(step.repository, step.digest)
                self._granted(step.repository, step.digest)
                if size != len(self._world.body(step.digest)):
                    self._wrong("a wrong size", f"{step}")
            case "manifest":
                await self._manifest(step, life.part(ManifestResolver), step.digest)
            case "tag":
                await self._manifest(step, life.part(ManifestResolver), parse_reference(TAG))

    async def _blob(self, step: Step, blobs: BlobService) -> None:
        content, label = self._world.body(step.digest), f"{step.at}"
        data = blobs.peek(step.repository, step.digest)
        if data is not None:
            self._granted(step.repository, step.digest)
            self._same(step, data, content)
            return
        body = await blobs.open(step.repository, step.digest)
        try:
            self._granted(step.repository, step.digest)
            if body.size != len(content):
                self._wrong("a wrong size", f"{step}")
                return
            sink, span = Sink(self._late, label), Span(0, len(content))
            if step.more < _LEAVES:
                sink.leaves_at = int(len(content) * step.more / _LEAVES)
            elif step.more < _RANGES:
                span = Span(len(content) // 3, len(content) * 2 // 3)
            await body.send(span, sink)
            self._same(step, bytes(sink.got), content[span.start : span.stop])
        finally:
            body.close()

    async def _manifest(
        self, step: Step, manifests: ManifestResolver, reference: Reference
    ) -> None:
        home, head = self._world.homes[step.repository], step.more < 0.3
        oldest = self._newest.get(step.repository, 0)
        found = manifests.peek(step.repository, reference)
        if found is None:
            found = await manifests.get(step.repository, reference, "10.0.0.1", head=head)
        digest = found.descriptor.digest
        self._granted(step.repository, digest)
        if found.body is not None and not head:
            self._same(step, found.body, self._world.body(digest))
        if isinstance(reference, Digest):
            return
        at = home.versions.index(digest) if digest in home.versions else -1
        if at < 0 or at > home.at:
            self._wrong("a tag that upstream never had", f"{step}: {digest}")
        elif at < oldest and self._sound:
            self._wrong("a tag goes back in time", f"{step}: {digest} after {oldest}")
        self._newest[step.repository] = max(at, self._newest.get(step.repository, 0))

    def _granted(self, repository: Repository, digest: Digest) -> None:
        if (repository, digest) not in self._world.granted:
            self._wrong("served where upstream never said yes", f"{repository} {digest}")

    def _same(self, step: Step, came: bytes, true: bytes) -> None:
        if came != true:
            self._wrong("wrong bytes", f"{step}: {len(came)} of {len(true)}")

    def _judge_refusal(self, step: Step, error: RegistryError) -> None:
        truly = step.kind == "tag" or self._world.has(step.repository, step.digest)
        if error.status == 404 and not truly:
            return
        if error.status in (403, 404) and truly:
            self._wrong("denied what upstream has", f"{step}: {error!r}")
        elif self._sound:
            self._wrong("a failure that nothing explains", f"{step}: {error!r}")
