"""The result: how long others waited under each attack, as a table of ratios and as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from bench.attacks.attack import ATTACKS
from bench.report import Machine

MIRROR = "mirror"


@dataclass(frozen=True, slots=True)
class Burst:
    """One attack on one server: seconds that each answer took, cores and bytes that it used."""

    attack: str
    server: str
    took: list[float]
    cores: float
    memory: int

    def share(self, part: float) -> float:
        """Return how long all but this part took at most, in ms."""
        ordered = sorted(self.took)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))] * 1e3

    @property
    def longest(self) -> float:
        """Return the longest, in ms."""
        return max(self.took) * 1e3


_COLUMNS: tuple[tuple[str, Callable[[Burst], float]], ...] = (
    ("p50 ms", lambda burst: burst.share(0.5)),
    ("p99 ms", lambda burst: burst.share(0.99)),
    ("max ms", lambda burst: burst.longest),
    ("cores", lambda burst: burst.cores),
    ("memory MB", lambda burst: burst.memory / 1e6),
)


def line(burst: Burst) -> str:
    """Say one burst."""
    told = "  ".join(f"{name} {value(burst):.4g}" for name, value in _COLUMNS)
    return f"{burst.attack:8}  {burst.server:16}  {told}"


def as_markdown(where: Machine, bursts: Sequence[Burst]) -> str:
    """Write the page that is kept."""
    servers = list(dict.fromkeys(burst.server for burst in bursts))
    servers.sort(key=lambda name: (name != MIRROR, name))
    others = servers[1:]
    head = ["attack", "", *servers, *(f"to {name}" for name in others)]
    rows = [head, ["---"] * len(head)]
    for attack in ATTACKS:
        of_it = [burst for burst in bursts if burst.attack == attack.name]
        rows += [
            _row(attack.what, name, value, of_it, servers) for name, value in _COLUMNS if of_it
        ]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return "\n".join(
        [
            "# The mirror under attack, beside two registries",
            "",
            "Written by `make bench-attacks`. `p50`, `p99` and `max` are the time that a warm",
            "manifest by digest takes during an attack, for a client that requests it a hundred",
            "times a second on one connection. An answer that does not come within 10 s counts as",
            "10 s.",
            "",
            "Each server is a pull-through cache with its own upstream. The figures are medians of",
            "the rounds. The last columns are the ratio of the mirror's figure to that of the",
            "other server: less is better.",
            "",
            *(f"{each}\n" for each in where.lines()[:2]),
            table,
            "",
        ]
    )


def _row(
    what: str,
    name: str,
    value: Callable[[Burst], float],
    bursts: Sequence[Burst],
    servers: Sequence[str],
) -> list[str]:
    medians = {
        server: statistics.median(value(burst) for burst in bursts if burst.server == server)
        for server in servers
    }
    mine, *others = (medians[server] for server in servers)
    ratios = [f"x{mine / other:.3g}" if other else "" for other in others]
    return [what, name, *(f"{medians[server]:.3g}" for server in servers), *ratios]


def as_json(where: Machine, bursts: Sequence[Burst]) -> str:
    """Write every burst's figures."""
    documents = [
        {"attack": burst.attack, "server": burst.server, "answers": len(burst.took)}
        | {name: round(value(burst), 3) for name, value in _COLUMNS}
        for burst in bursts
    ]
    return json.dumps({"machine": asdict(where), "bursts": documents}, indent=2) + "\n"
