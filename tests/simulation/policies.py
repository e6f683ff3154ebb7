"""Other policies, modelled plainly: no mirror at all, and the official registry's proxy."""

from __future__ import annotations

import asyncio
import math
from typing import Protocol

from mirror.oci.errors import UpstreamUnavailable
from tests.simulation.hub import Hub, parts
from tests.simulation.trace import Name, Pull
from tests.standin import Document


class Policy(Protocol):
    """A way to pull from a hub. `waited` counts the pulls that waited for what a tag means."""

    waited: int

    async def pull(self, wanted: Pull) -> tuple[str, ...]:
        """Pull as an engine does; returns the digests of the manifests, the tag's first.

        Raises RegistryError if the pull fails.
        """

    async def tick(self) -> None:
        """Do the work that is due, as time has passed."""

    def next_tick(self) -> float:
        """Return the seconds until work is due at the soonest."""

    async def restart(self) -> None:
        """Stop, and start with the stored state."""


class Direct:
    """Every runner asks the hub: a GET by tag, and one for its platform's manifest."""

    name = "every client direct"

    def __init__(self, hub: Hub) -> None:
        self.waited = 0
        self._hub = hub

    def __repr__(self) -> str:
        return "<Direct>"

    async def pull(self, wanted: Pull) -> tuple[str, ...]:
        """Pull; see `Policy`."""
        name = wanted.name
        self.waited += 1
        await asyncio.sleep(0)
        document = self._hub.get(name.repository, name.tag)
        for digest in parts(document)[1:]:
            await asyncio.sleep(0)
            self._hub.get(name.repository, digest)
        return parts(document)

    async def tick(self) -> None:
        """Do nothing, as no work is ever due."""

    def next_tick(self) -> float:
        """Return an infinite time, as no work is ever due."""
        return math.inf

    async def restart(self) -> None:
        """Do nothing, as no state is stored."""


class OfficialProxy:
    """HEAD on every pull; a GET for every client that asks while a manifest is not stored.

    If the hub does not answer the HEAD, the former digest of the tag is served. If it refuses the
    GET, the pull fails, as the client asks for the digest of the HEAD.
    """

    name = "HEAD each time, no coalescing"

    def __init__(self, hub: Hub) -> None:
        self.waited = 0
        self._hub = hub
        self._tags: dict[Name, str] = {}
        self._stored: dict[str, Document] = {}

    def __repr__(self) -> str:
        return f"<OfficialProxy: {len(self._stored)} manifests stored>"

    async def pull(self, wanted: Pull) -> tuple[str, ...]:
        """Pull; see `Policy`."""
        name = wanted.name
        document = await self._manifest(name, await self._resolve(name))
        for digest in parts(document)[1:]:
            await self._manifest(name, digest)
        return parts(document)

    async def _resolve(self, name: Name) -> str:
        self.waited += 1
        await asyncio.sleep(0)
        try:
            self._tags[name] = self._hub.head(name.repository, name.tag).digest
        except UpstreamUnavailable:
            if name not in self._tags:
                raise
        return self._tags[name]

    async def _manifest(self, name: Name, digest: str) -> Document:
        if digest not in self._stored:
            document = self._hub.get(name.repository, digest)
            await asyncio.sleep(0)  # meanwhile other clients ask the hub too
            self._stored[digest] = document
        return self._stored[digest]

    async def tick(self) -> None:
        """Do nothing, as no work is ever due."""

    def next_tick(self) -> float:
        """Return an infinite time, as no work is ever due."""
        return math.inf

    async def restart(self) -> None:
        """Do nothing, as all state is stored."""
