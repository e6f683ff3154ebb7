"""Footprint rows: memory after work, and a start with much on the disk."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from pathlib import Path

from bench import load
from bench.engine import Engine
from bench.figures import Bar, Figure, Samples, at_most
from bench.servers import Server, start_mirror
from bench.site import Site, pair

MEMORY = ["library/work0=56M,32M,8M", "library/work1=56M,32M,8M", "library/worked=32M"]
_REQUESTS = 100  # on each of 32 connections
_MB = 1e6
_STARTS = 3


def memory(site: Site) -> list[Figure]:
    """Have both do the same work, begun afresh, and read what they hold."""
    folder = site.folder / "memory"
    folder.mkdir()
    with pair(folder, site.hub) as servers:
        for server in servers:
            _work(site, server)
        return resident("memory", "after the same work", servers)


def resident(row: str, when: str, servers: tuple[Server, Server]) -> list[Figure]:
    """Read what both hold now, and held at the most."""
    read = {server.name: server.process.memory() for server in servers}
    now: Samples = {name: [memory.now / _MB] for name, memory in read.items()}
    peak: Samples = {name: [memory.peak / _MB] for name, memory in read.items()}
    return [
        Figure(row, f"memory {when}: VmRSS", "MB", now, at_most(1)),
        Figure(row, f"memory {when}: VmHWM", "MB", peak, at_most(1)),
    ]


def _work(site: Site, server: Server) -> None:
    """Pull two images, then a herd on a third, then big and small requests: all counted."""
    for name in ("work0", "work1"):
        Engine(server.url).pull(site.image(name).repository)
    worked, image = site.image("worked"), site.image("work0")
    load.stream(server.url, worked.blob(worked.layers[0]), load.CONNECTIONS)
    site.warm(server, image)
    load.stream(server.url, image.blob(image.layers[0]), 8, 4)
    for path in (image.by_tag, image.by_digest, image.blob(image.config)):
        load.stream(server.url, path, load.CONNECTIONS, _REQUESTS)
    site.settle()


def startup(site: Site) -> list[Figure]:
    """Start with many blobs: first to build the index, then as it will be every day."""
    count = site.scale.startup_blobs
    folder = site.folder / "startup"
    fill(folder / "data" / "blobs" / "sha256", count)
    first = _start(site, folder)
    later = [_start(site, folder) for _ in range(_STARTS)]
    of = f"start with {count:,} blobs"
    return [
        Figure("startup", f"{of}, building the index", "s", {"mirror": [first[0]]}),
        Figure(
            "startup", of, "s", {"mirror": [each[0] for each in later]}, Bar("at most", 2, None)
        ),
        Figure("startup", f"{of}: VmRSS after it", "MB", {"mirror": [each[1] for each in later]}),
        Figure("startup", "start on an empty folder", "s", _empty(site)),
    ]


def fill(folder: Path, count: int) -> None:
    """Write so many small blobs, as a mirror without an index finds them."""
    for shard in range(256):
        (folder / f"{shard:02x}").mkdir(parents=True)
    for number in range(count):
        data = f"blob {number}\n".encode()
        name = hashlib.sha256(data).hexdigest()
        (folder / name[:2] / name).write_bytes(data)


def _start(site: Site, folder: Path) -> tuple[float, float]:
    """Return the seconds until it is ready, and the megabytes it has then."""
    with ExitStack() as stack:
        mirror = start_mirror(stack, folder, site.hub.url)
        return mirror.ready, mirror.process.memory().now / _MB


def _empty(site: Site) -> Samples:
    return {server.name: [server.ready] for server in (site.mirror, site.registry)}
