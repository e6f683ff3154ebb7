"""Cold rows: what the servers have to fetch first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench import load
from bench.engine import Engine, Pull
from bench.figures import HUB, MIRROR, REGISTRY, Figure, Samples, at_least, at_most
from bench.servers import Hub, Server
from bench.site import Scale, Site

HELD = 100e6  # bytes per second
_LAYERS = "56M,32M,8M"
_HERD = 32
_MB = 1e6


def cold_images(scale: Scale) -> list[str]:
    """Name an image of 96 MiB for every round."""
    return [f"library/cold{number}={_LAYERS}" for number in range(scale.cold_rounds)]


def first_byte_images(scale: Scale) -> list[str]:
    """Name an image of one middling layer for every round."""
    return [f"library/first{number}=8M" for number in range(scale.rounds)]


def herd_images(scale: Scale) -> list[str]:
    """Name an image of one large layer for every round."""
    return [f"library/herd{number}=32M" for number in range(scale.cold_rounds)]


@dataclass(frozen=True, slots=True)
class _Cost:
    """A pull, and the CPU seconds it took the server between, and the hub."""

    who: str
    pull: Pull
    server: float
    hub: float


def image(site: Site) -> list[Figure]:
    """Pull a cold image as fast as it comes."""
    costs = list(_pulls(site))
    rate = _by_name(costs, lambda cost: cost.pull.size / _MB / cost.pull.seconds)
    notes = tuple(
        f"{name}: x{times:.2f} of pulling from the hub"
        for name, times in _beside_hub(Figure("", "", "", rate)).items()
    )
    share = _by_name(costs, lambda cost: cost.hub / cost.pull.seconds)
    return [
        Figure("cold", "cold image of 96 MiB", "MB/s", rate, at_least(1), notes),
        Figure(
            "cold",
            "cold image: server CPU",
            "s/image",
            _by_name(costs, lambda cost: cost.server),
        ),
        Figure("cold", "cold image: cores the hub takes meanwhile", "cores", share),
    ]


def held_image(site: Site) -> list[Figure]:
    """Pull a cold image through a line of 100 MB/s."""
    seconds = _by_name(list(_pulls(site)), lambda cost: cost.pull.seconds)
    what = "cold image of 96 MiB, hub held to 100 MB/s"
    return [Figure("held", what, "s", seconds, at_most(1.05, HUB))]


def first_byte(site: Site) -> list[Figure]:
    """Time how long a cold layer takes to begin."""
    layer, whole = _samples(), _samples()
    for number, server in site.rounds(site.scale.rounds):
        site.settle()
        pull = Engine(server.url).pull(site.image(f"first{number}").repository)
        layer[server.name].append(pull.layer_byte * 1e3)
        whole[server.name].append(pull.image_byte * 1e3)
    return [
        Figure("first-byte", "first byte of a cold layer, from asking it", "ms", layer),
        Figure("first-byte", "first byte of a cold layer, from asking the tag", "ms", whole),
    ]


def herd(site: Site) -> list[Figure]:
    """Let many clients ask for one cold blob at once."""
    bodies: Samples = {server.name: [] for server in site.all_servers}
    seconds: Samples = {server.name: [] for server in site.all_servers}
    for number, server in site.rounds_with_limit(site.scale.cold_rounds):
        hub = site.hub_of(server)
        image = site.image(f"herd{number}")
        layer = image.layers[0]
        site.settle()
        hub.forget()
        done = load.stream(server.url, image.blob(layer), _HERD)
        hub.quiet()
        bodies[server.name].append(hub.bodies(layer))
        seconds[server.name].append(done.seconds)
    what = f"{_HERD} clients on one cold blob of 32 MiB"
    return [
        Figure("herd", f"{what}: upstream bodies", "bodies", bodies, at_most(1, None)),
        Figure("herd", f"{what}: until all have it", "s", seconds),
    ]


def _pulls(site: Site) -> Iterator[_Cost]:
    """Pull a fresh image in every round: from the hub, and through each server."""
    for number in range(site.scale.cold_rounds):
        repository = site.image(f"cold{number}").repository
        turn: list[Server | Hub] = [site.hub, site.mirror, site.registry]
        for shift in range(len(turn)):
            yield _pull(site, turn[(number + shift) % len(turn)], repository)


def _pull(site: Site, source: Server | Hub, repository: str) -> _Cost:
    site.settle()
    hub, server = site.hub.process.cpu(), source.process.cpu()
    pull = Engine(source.url).pull(repository)
    return _Cost(source.name, pull, source.process.cpu() - server, site.hub.process.cpu() - hub)


def _by_name(costs: list[_Cost], value: Callable[[_Cost], float]) -> Samples:
    names = (MIRROR, REGISTRY, HUB)
    return {name: [value(cost) for cost in costs if cost.who == name] for name in names}


def _beside_hub(rate: Figure) -> dict[str, float]:
    hub = rate.median(HUB)
    medians = {name: rate.median(name) for name in (MIRROR, REGISTRY)}
    return {name: value / hub for name, value in medians.items() if value and hub}


def _samples() -> Samples:
    return {MIRROR: [], REGISTRY: []}
