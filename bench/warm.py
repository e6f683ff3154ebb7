"""Warm rows: what the servers give from what they keep."""

from __future__ import annotations

from bench import load
from bench.figures import Bar, Figure, Samples, at_least, at_most
from bench.servers import Server
from bench.site import Site

SMALL = ["library/small=1K,1K,1K,1K"]  # its config has 0.8 kB
BIG = ["library/big=96M"]
_BIG_CONNECTIONS = 8
_BIG_TIMES = 4
_GB = 1e9


def tag_manifest(site: Site) -> list[Figure]:
    """Ask for a manifest by a tag that is fresh."""
    return _requests(site, "tag", "manifest by tag", site.image("small").by_tag, at_least(30))


def digest_manifest(site: Site) -> list[Figure]:
    """Ask for a manifest by digest."""
    path = site.image("small").by_digest
    return _requests(site, "digest", "manifest by digest", path, at_least(15))


def config_blob(site: Site) -> list[Figure]:
    """Ask for a blob that is small."""
    image = site.image("small")
    return _requests(site, "config", "config blob", image.blob(image.config), at_least(18))


def _requests(site: Site, row: str, what: str, path: str, bar: Bar) -> list[Figure]:
    for server in site.all_servers:
        site.warm(server, site.image("small"))
    rate, tail, cost = _samples(site), _samples(site), _samples(site)
    for _, server in site.rounds_with_limit(site.scale.rounds):
        site.settle()
        before = server.process.cpu()
        done = load.requests(server.url + path, site.scale.seconds)
        rate[server.name].append(done.rate)
        tail[server.name].append(done.p99)
        cost[server.name].append((server.process.cpu() - before) / done.count * 1e6)
    return [
        Figure(row, f"warm {what}", "requests/s", rate, bar),
        Figure(row, f"warm {what}: p99", "ms", tail),
        Figure(row, f"warm {what}: server CPU", "us/request", cost),
    ]


def big_blob(site: Site) -> list[Figure]:
    """Ask for a blob of 96 MiB over 8 connections: how fast, and what it costs the server."""
    return _big(site, "big", "96 MiB blob", at_least(1), at_most(0.75))


def big_blob_over_tls(site: Site) -> list[Figure]:
    """Ask for the same, all servers speaking TLS."""
    return _big(site, "tls", "96 MiB blob over TLS", at_least(0.95), None)


def _big(site: Site, row: str, what: str, fast: Bar, cheap: Bar | None) -> list[Figure]:
    image = site.image("big")
    for server in site.all_servers:
        site.warm(server, image)
        _stream(site, server)  # into the page cache
    rate, cost, ours = _samples(site), _samples(site), _samples(site)
    for _, server in site.rounds_with_limit(site.scale.rounds):
        site.settle()
        before = server.process.cpu()
        done = _stream(site, server)
        rate[server.name].append(done.size / _GB / done.seconds)
        cost[server.name].append((server.process.cpu() - before) / (done.size / _GB))
        ours[server.name].append(done.cpu / (done.size / _GB))
    return [
        Figure(row, f"{what}, 8 connections", "GB/s", rate, fast),
        Figure(row, f"{what}: server CPU", "s/GB", cost, cheap),
        Figure(row, f"{what}: the client's own CPU", "s/GB", ours),
    ]


def _stream(site: Site, server: Server) -> load.Stream:
    image = site.image("big")
    path = image.blob(image.layers[0])
    return load.stream(server.url, path, _BIG_CONNECTIONS, _BIG_TIMES)


def _samples(site: Site) -> Samples:
    return {server.name: [] for server in site.all_servers}
