"""The site of a measurement: a hub with the mirror and docker-registry in front of it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.engine import Engine
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


@dataclass(frozen=True, slots=True)
class Site:
    """Two servers in front of one hub, all running."""

    hub: Hub
    mirror: Server
    registry: Server
    scale: Scale
    folder: Path

    def rounds(self, count: int) -> Iterator[tuple[int, Server]]:
        """Yield the servers in turn, the other one first in every other round."""
        for number in range(count):
            pair = (self.mirror, self.registry)
            for server in pair if number % 2 else reversed(pair):
                yield number, server

    def image(self, name: str) -> Image:
        """Return an image that the hub holds."""
        return self.hub.images[f"library/{name}"]

    def warm(self, server: Server, image: Image) -> None:
        """Pull an image until the server has all of it; docker-registry keeps it afterwards."""
        for _ in range(_WARM_WITHIN):
            self.settle()
            self.hub.forget()
            Engine(server.url).pull(image.repository)
            if not any(self.hub.bodies(digest) for digest in (image.config, *image.layers)):
                return
        raise Failed(f"{server.name} does not keep {image.repository}")

    def settle(self) -> None:
        """Wait until nothing is under way, so that nobody pays for what came before."""
        self.hub.quiet()
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
) -> Iterator[Site]:
    """Run a site in a folder of its own; `rate` in bytes per second holds the hub back.

    With `tls` both servers speak it to their clients.
    """
    folder.mkdir()
    with ExitStack() as stack:
        hub = start_hub(stack, folder / "hub", images, rate)
        with pair(folder, hub, make_pair(folder) if tls else None) as (mirror, registry):
            yield Site(hub, mirror, registry, scale, folder)


@contextmanager
def pair(folder: Path, hub: Hub, tls: Pair | None = None) -> Iterator[tuple[Server, Server]]:
    """Run both servers on empty folders."""
    with ExitStack() as stack:
        mirror = start_mirror(stack, folder / "mirror", hub.url, tls)
        yield mirror, start_registry(stack, folder / "docker-registry", hub.url, tls)
