"""The plan of a play: its steps and their times, all from the seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from tests.races.world import World

Asked = Literal["blob", "head", "manifest", "tag"]
Done = Literal[
    "purge", "gc", "verify", "du", "ls", "show", "pin", "unpin", "alter", "delete", "touch"
]
Kind = Asked | Done | Literal["move", "stop", "hurry", "clock"]
_ASKED: tuple[Kind, ...] = ("blob", "blob", "blob", "blob", "head", "manifest", "tag")
_DONE: tuple[Kind, ...] = (
    *("purge", "purge", "gc", "verify", "du", "ls", "show", "pin", "pin", "unpin"),
    *("alter", "delete", "touch"),
)
_ENDS: tuple[Kind, ...] = ("stop", "hurry", "clock")
_LENGTH = 12.0  # virtual seconds


@dataclass(frozen=True)
class Step:
    """One step at a virtual second; the kind decides the meaning of `more`."""

    at: float
    kind: Kind
    repository: Repository
    digest: Digest
    more: float = 0.0

    def __str__(self) -> str:
        where = f"{self.repository.upstream}/{self.repository.name}"
        return f"{self.at:7.3f}  {self.kind} {where} {self.digest[7:15]} {self.more:.2f}"


@dataclass(frozen=True)
class Manner:
    """A play's settings: the bound in bytes, the share of failures, the delays."""

    bound: int
    trouble: float
    shuffled: bool
    missing_ttl: float
    tag_ttl: float
    fetches: int
    slow: dict[str, float]  # seconds at most, by the kind of wait


def manner(seed: str) -> Manner:
    """Draw the settings of a play."""
    chance = random.Random(f"manner {seed}")
    pace = (0.0002, 0.0002, 0.02, 0.3, 1.5)
    kinds = (
        "begin",
        "rename",
        "unlink",
        "fsync",
        "fdatasync",
        "open",
        "sql",
        "HEAD",
        "GET",
        "body",
    )
    return Manner(
        bound=chance.choice((1_600_000, 2_000_000, 64 * 1024**2)),
        trouble=chance.choice((0.0, 0.0, 0.0, 0.1)),
        shuffled=chance.random() < 0.5,
        missing_ttl=chance.choice((0.0, 2.0, 10.0)),
        tag_ttl=chance.choice((0.0, 1.0, 60.0)),
        fetches=chance.choice((2, 4, 32)),
        slow={kind: chance.choice(pace) for kind in kinds},
    )


def steps(seed: str, world: World) -> tuple[Step, ...]:
    """Draw the steps: bursts, each about one digest, moves of tags, and ends of lives."""
    chance = random.Random(f"steps {seed}")
    bursts = _Bursts(chance, world)
    found: list[Step] = []
    for _ in range(chance.randint(4, 10)):
        burst = chance.choice((bursts.mixed, bursts.mixed, bursts.siege, bursts.flood))
        found += burst(chance.uniform(0, _LENGTH))
    for kind in ("move", "move", *chance.choices(_ENDS, k=chance.randint(0, 3))):
        at = chance.uniform(0, _LENGTH)
        found.append(Step(at, kind, chance.choice(bursts.homes), bursts.hot[0], chance.random()))
    return tuple(sorted(found, key=lambda step: step.at))


class _Bursts:
    """Draws steps that come close together."""

    def __init__(self, chance: random.Random, world: World) -> None:
        self._chance = chance
        self._world = world
        self.homes = list(world.homes)
        self._hollow = sorted(world.hollow, key=str)
        self._blobs, self._manifests = list(world.blobs), list(world.manifests)
        self.hot = chance.sample(self._blobs, 3)

    def mixed(self, begin: float) -> list[Step]:
        """Draw requests and orders of any kind, mostly for one digest."""
        chance, digest = self._chance, self._chance.choice(self.hot)
        spread = chance.choice((0.001, 0.1, 1.5))
        found = []
        for _ in range(chance.randint(3, 12)):
            kind = chance.choice(_ASKED if chance.random() < 0.75 else _DONE)
            about = digest if chance.random() < 0.7 else chance.choice(self._blobs)
            if kind == "manifest":
                about = chance.choice(self._manifests)
            home = chance.choice(self.homes)
            if kind in ("blob", "head") and chance.random() < 0.5:
                home = self._right(about)
            found.append(self._step(begin + chance.uniform(0, spread), kind, home, about))
        return found

    def siege(self, begin: float) -> list[Step]:
        """Draw requests for a digest under hollow names, beside requests where upstream has it."""
        chance, digest = self._chance, self._chance.choice(self.hot)
        wrong: list[tuple[Repository, Kind]]
        wrong = [(chance.choice(self._hollow), "blob") for _ in range(chance.randint(3, 16))]
        right: list[tuple[Repository, Kind]]
        right = [(self._right(digest), "blob") for _ in range(chance.randint(1, 4))]
        away: list[tuple[Repository, Kind]] = [(right[0][0], "purge")]
        spread = chance.choice((0.01, 0.5, 2.0))
        return [
            self._step(begin + chance.uniform(0, spread), kind, home, digest)
            for home, kind in [*wrong, *right, *chance.choice(([], away))]
        ]

    def flood(self, begin: float) -> list[Step]:
        """Draw enough requests at the same time to evict the kept content."""
        chance, spread = self._chance, self._chance.choice((0.01, 0.3))
        return [
            self._step(begin + chance.uniform(0, spread), "blob", self._right(each), each)
            for each in chance.sample(self._blobs, chance.randint(4, 12))
        ]

    def _right(self, digest: Digest) -> Repository:
        """Return a repository that has the digest, if any does."""
        right = [home for home in self.homes if self._world.has(home, digest)]
        return self._chance.choice(right or self.homes)

    def _step(self, at: float, kind: Kind, home: Repository, digest: Digest) -> Step:
        return Step(at, kind, home, digest, self._chance.random())
