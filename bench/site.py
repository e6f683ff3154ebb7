"""The site of a measurement: a hub with the mirror and docker-registry in front of it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.engine import Engine
from bench.limit import Limit, is_there, start_limit
from bench.processes import Failed
from bench.servers import (
    Hub,
    Image,
    Pair,
    Server,
    make_pair,
    start_hub,
    start_mirror,
    start_registry,
)

_WARM_WITHIN = 10  # pulls


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured: rounds of each row, seconds of each burst of requests."""

    rounds: int
    seconds: int
    cold_rounds: int
    startup_blobs: int
    large_blobs: int


@dataclass(frozen=True, slots=True)
class Site:
    """Two servers in front of one hub, all running; and the limit, where it is measured."""

    hub: Hub
    mirror: Server
    registry: Server
    scale: Scale
    folder: Path
    limit: Limit | None = None

    def rounds(self, count: int) -> Iterator[tuple[int, Server]]:
        """Yield the two servers in turn, the other one first in every other round."""
        return _in_turn(count, (self.mirror, self.registry))

    def rounds_with_limit(self, count: int) -> Iterator[tuple[int, Server]]:
        """Yield all servers in turn, the last one first in every other round."""
        return _in_turn(count, self.all_servers)

    @property
    def all_servers(self) -> tuple[Server, ...]:
        """The two servers, and the limit."""
        limit = () if self.limit is None else (self.limit.server,)
        return (self.mirror, self.registry, *limit)

    def hub_of(self, server: Server) -> Hub:
        """Return the hub that a server stands before."""
        limit = self.limit
        return limit.hub if limit is not None and server is limit.server else self.hub

    def image(self, name: str) -> Image:
        """Return an image that the hub holds."""
        return self.hub.images[f"library/{name}"]

    def warm(self, server: Server, image: Image) -> None:
        """Pull an image until the server has all of it; docker-registry keeps it afterwards."""
        for _ in range(_WARM_WITHIN):
            self.settle()
            hub = self.hub_of(server)
            hub.forget()
            Engine(server.url).pull(image.repository)
            if not any(hub.bodies(digest) for digest in (image.config, *image.layers)):
                return
        raise Failed(f"{server.name} does not keep {image.repository}")

    def settle(self) -> None:
        """Wait until nothing is under way, so that nobody pays for what came before."""
        for server in self.all_servers:
            self.hub_of(server).quiet()
        os.sync()
        time.sleep(0.1)


@contextmanager
def open_site(
    folder: Path,
    images: Sequence[str],
    scale: Scale,
    rate: float | None = None,
    *,
    tls: bool = False,
    limited: Sequence[str] = (),
) -> Iterator[Site]:
    """Run a site in a folder of its own; `rate` in bytes per second holds the hub back.

    With `tls` all servers speak it to their clients. The limit is measured with the images of
    `limited`, if there are any and nginx is installed.
    """
    folder.mkdir()
    with ExitStack() as stack:
        hub = start_hub(stack, folder / "hub", images, rate)
        secret = make_pair(folder) if tls else None
        limit = (
            start_limit(stack, folder / "limit", limited, secret)
            if limited and is_there()
            else None
        )
        with pair(folder, hub, secret) as (mirror, registry):
            yield Site(hub, mirror, registry, scale, folder, limit)


@contextmanager
def pair(folder: Path, hub: Hub, tls: Pair | None = None) -> Iterator[tuple[Server, Server]]:
    """Run both servers on empty folders."""
    with ExitStack() as stack:
        mirror = start_mirror(stack, folder / "mirror", hub.url, tls)
        yield mirror, start_registry(stack, folder / "docker-registry", hub.url, tls)


def _in_turn(count: int, servers: tuple[Server, ...]) -> Iterator[tuple[int, Server]]:
    for number in range(count):
        for server in servers if number % 2 else reversed(servers):
            yield number, server
