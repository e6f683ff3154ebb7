"""The mirror in a simulation: its own core and manifests, with a model of the hub as upstream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from mirror.app import background
from mirror.app.closing import closed
from mirror.app.content import build_manifests, build_refresh_ahead, build_tags_in_use
from mirror.app.core import Clocks, open_core
from mirror.app.upstream_plans import rules_of
from mirror.budget.budget import Budget
from mirror.budget.limit_poller import LimitPoller
from mirror.content.manifests.refresh_ahead import RefreshAhead
from mirror.content.manifests.resolver import ManifestResolver
from mirror.content.manifests.result import ManifestResult
from mirror.content.outcome import Outcome
from mirror.oci import manifest, media
from mirror.oci.digest import Digest
from mirror.oci.errors import RegistryError
from mirror.oci.manifest import Hint, Manifest
from mirror.oci.names import HUB, Reference, Repository, Tag
from mirror.settings import Settings
from mirror.upstream.telemetry import Observer, UpstreamResponse
from tests.simulation.hub import Clock, Hub
from tests.simulation.trace import Pull
from tests.standin import Document

_EPOCH = 1_767_225_600  # seconds; the wall clock's time at the first midnight


class Upstream:
    """The model of the hub as a `ManifestSource`, observed as a `RegistryClient` is."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def __repr__(self) -> str:
        return f"<Upstream {self._hub!r}>"

    @property
    def answers_heads(self) -> bool:
        """Whether HEADs are answered: the model serves all of them."""
        return True

    async def hint(
        self,
        name: str,
        reference: Reference,
        observe: Observer,
        *,
        insist: bool = False,  # noqa: ARG002 - the model serves all HEADs
    ) -> Hint:
        """Ask for the description of a manifest."""
        document = await self._ask("HEAD", name, reference, observe)
        return Hint(Digest(document.digest), document.media_type, document.size)

    async def get_manifest(
        self,
        name: str,
        reference: Reference,
        observe: Observer,
        *,
        retry_as: Reference | None = None,  # noqa: ARG002 - the model sends no wrong body
    ) -> Manifest:
        """Fetch a manifest."""
        document = await self._ask("GET", name, reference, observe)
        return manifest.read(document.manifest, Digest(document.digest), document.media_type)

    async def _ask(
        self, method: str, name: str, reference: Reference, observe: Observer
    ) -> Document:
        clock, seconds = self._hub.clock, self._hub.terms.seconds
        sent = clock()
        clock.now += seconds / 2
        await asyncio.sleep(0)  # the question is on its way
        say = self._hub.head if method == "HEAD" else self._hub.get
        try:
            document = say(name, reference)
        except RegistryError as error:
            observe(self._told(method, name, reference, sent, error))
            raise
        clock.now += seconds / 2
        observe(self._told(method, name, reference, sent))
        await asyncio.sleep(0)  # the answer is on its way
        return document

    def _told(
        self,
        method: str,
        name: str,
        reference: Reference,
        sent: float,
        error: RegistryError | None = None,
    ) -> UpstreamResponse:
        status = error.status if error else 200
        return UpstreamResponse(
            upstream=HUB,
            account="",
            kind="manifest",
            method=method,
            status=None if status == 503 else status,
            seconds=self._hub.clock() - sent,
            repository=name,
            asked=str(reference),
            limit=None if status == 503 else self._hub.word,
            spent=status == 429,
            retry_after=error.retry_after if error else None,
        )


@dataclass(frozen=True, slots=True)
class _Parts:
    """The parts of a running mirror."""

    budget: Budget
    manifests: ManifestResolver
    refresh_ahead: RefreshAhead
    poller: LimitPoller


class Mirrored:
    """A mirror between the runners and the hub."""

    name = "mirror"

    def __init__(self, hub: Hub, clock: Clock, folder: Path, settings: Settings) -> None:
        self._hub = hub
        self._clock = clock
        self._folder = folder
        self._settings = settings
        self.waited = 0
        self._stack = AsyncExitStack()
        self._parts: _Parts | None = None

    def __repr__(self) -> str:
        return f"<Mirrored: {self._parts}>"

    async def start(self) -> None:
        """Wire the parts, and load the stored state."""
        self._parts = await self._stack.enter_async_context(self._running())
        await self.tick()

    async def stop(self) -> None:
        """Stop; the stored state is on the disk."""
        await self._stack.aclose()

    async def restart(self) -> None:
        """Stop, and start with the stored state."""
        await self.stop()
        await self.start()

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[_Parts]:
        settings, clocks = self._settings, Clocks(timer=self._clock, wall=self._wall)
        async with AsyncExitStack() as stack:
            core = await stack.enter_async_context(open_core(settings, self._folder, clocks))
            registries = {HUB: Upstream(self._hub)}
            in_use = build_tags_in_use(settings, core)
            manifests = closed(stack, build_manifests(settings, core, registries, in_use))
            rules = {HUB: rules_of(settings.upstreams[HUB])}
            refresh_ahead = build_refresh_ahead(core, manifests, in_use, rules)
            background.run(stack, core.store.keep_books())
            poller = LimitPoller(registries, core.budget, limit_check=settings.limit_check)
            yield _Parts(core.budget, manifests, refresh_ahead, poller)

    def _wall(self) -> float:
        return self._clock() + _EPOCH

    async def tick(self) -> None:
        """Check the limit, see gates open and ask about tags that are due, as the daemon does."""
        budget, poller = self._running_parts.budget, self._running_parts.poller
        budget.tick()
        if poller.due(HUB):
            await poller.check(HUB)
        refresh_ahead = self._running_parts.refresh_ahead
        while refresh_ahead.begin():
            await refresh_ahead.settled()

    def next_tick(self) -> float:
        """Return the seconds until a tag is due."""
        return self._running_parts.refresh_ahead.in_use.next_due()

    async def pull(self, wanted: Pull) -> tuple[str, ...]:
        """Pull as dockerd does: HEAD by tag, GET by digest, and the platform's manifest."""
        client, repository = wanted.client, Repository(HUB, wanted.name.repository)
        head = await self._ask(client, repository, Tag(wanted.name.tag), head=True)
        self.waited += head.outcome in (Outcome.REVALIDATED, Outcome.MISS)
        found = await self._ask(client, repository, head.descriptor.digest)
        if found.descriptor.media_type not in media.INDEXES:
            return (found.descriptor.digest,)
        platforms = json.loads(found.body or b"")["manifests"]
        child = await self._ask(client, repository, Digest(platforms[0]["digest"]))
        return (found.descriptor.digest, child.descriptor.digest)

    async def _ask(
        self, client: str, repository: Repository, reference: Reference, *, head: bool = False
    ) -> ManifestResult:
        """Ask as `RegistryApi.manifest` does."""
        manifests = self._running_parts.manifests
        found = manifests.peek(repository, reference)
        if found is None or (found.body is None and not head):
            found = await manifests.get(repository, reference, client, head=head)
        if not head:
            digest = found.descriptor.digest
            assert found.body == self._hub.documents[digest].manifest, f"not {digest}"
        return found

    @property
    def _running_parts(self) -> _Parts:
        assert self._parts is not None, "not started"
        return self._parts
