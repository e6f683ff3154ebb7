"""The trace: a fleet's pulls, moves of tags, and outages of upstream. All follows from a seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

DAY = 86_400.0  # seconds
MORNING = 8 * 3600.0  # the beginning of a working day
WORK = 10 * 3600.0  # the length of a working day
_POPULARITY = (8, 4, 2, 1, 1)  # of a repository's tags, from the first on
_WIDTHS = (1, 2, 4, 8, 16, 1000)  # runners of a matrix; at most all runners
_RERUN = 0.1  # of the jobs
_OUTAGE = 0.3  # a day


@dataclass(frozen=True, slots=True)
class Name:
    """A tag of a repository."""

    repository: str
    tag: str


@dataclass(frozen=True, slots=True)
class Pull:
    """A runner that pulls."""

    client: str
    name: Name


@dataclass(frozen=True, slots=True)
class Job:
    """A matrix with runners that all start at this moment."""

    at: float
    pulls: tuple[Pull, ...]


@dataclass(frozen=True, slots=True)
class Move:
    """A tag that gets another image at this moment; each version is a different one."""

    at: float
    name: Name
    version: int


@dataclass(frozen=True, slots=True)
class Outage:
    """Upstream goes away, or comes back."""

    at: float
    down: bool


@dataclass(frozen=True, slots=True)
class Foreign:
    """A pull of another client behind the same address."""

    at: float


@dataclass(frozen=True, slots=True)
class Restart:
    """The mirror stops and starts."""

    at: float


Event: TypeAlias = Job | Move | Outage | Foreign | Restart


@dataclass(frozen=True, slots=True)
class Fleet:
    """A fleet's pulls. `jobs` and `moves` are per day, `foreign` pulls of others per six hours."""

    runners: int = 40
    repositories: int = 12
    tags: int = 60
    jobs: int = 200
    moves: int = 5
    moves_from: int = 0  # the first day on which tags move
    platforms: int = 1  # 1: a plain manifest; more: an index of this many
    foreign: int = 0
    restarts: tuple[float, ...] = ()  # seconds from the first midnight

    @property
    def names(self) -> list[Name]:
        """All tags, by repository in turn."""
        return [
            Name(f"team/image-{number % self.repositories}", f"v{number // self.repositories}")
            for number in range(self.tags)
        ]


@dataclass(frozen=True)
class Trace:
    """A fleet's days. In the beginning every tag has version 0."""

    fleet: Fleet
    days: int
    events: tuple[Event, ...]

    @property
    def jobs(self) -> Iterator[Job]:
        """The jobs, re-runs included."""
        return (event for event in self.events if isinstance(event, Job))


def plan(fleet: Fleet, days: int, seed: int) -> Trace:
    """Plan some days of a fleet."""
    random = Random(seed)
    events: list[Event] = [Restart(at) for at in fleet.restarts]
    versions = dict.fromkeys(fleet.names, 0)
    for day in range(days):
        begin = day * DAY + MORNING
        events += _jobs(fleet, begin, random)
        if day >= fleet.moves_from:
            events += _moves(fleet, begin, versions, random)
        if day and random.random() < _OUTAGE:  # not on the first day, when the cache is empty
            events += _outage(begin, random)
    events += _foreign(fleet, days * DAY, random)
    return Trace(fleet, days, tuple(sorted(events, key=lambda event: event.at)))


def _jobs(fleet: Fleet, begin: float, random: Random) -> Iterator[Event]:
    for _ in range(fleet.jobs):
        at = begin + random.uniform(0, WORK)
        pulls = _matrix(fleet, random)
        yield Job(at, pulls)
        if random.random() < _RERUN:
            yield Job(at + random.uniform(60, 3600), pulls)


def _matrix(fleet: Fleet, random: Random) -> tuple[Pull, ...]:
    width = min(fleet.runners, random.choice(_WIDTHS))
    runners = random.sample(range(fleet.runners), width)
    names = _images(fleet, random)
    return tuple(Pull(f"10.0.0.{runner + 1}", name) for runner in runners for name in names)


def _images(fleet: Fleet, random: Random) -> list[Name]:
    """Choose one to four repositories, and a tag of each, some more often than others."""
    most = min(4, fleet.repositories)
    chosen = random.sample(range(fleet.repositories), random.randint(1, most))
    each = fleet.tags // fleet.repositories
    weights = [_POPULARITY[min(number, len(_POPULARITY) - 1)] for number in range(each)]
    return [
        Name(f"team/image-{repository}", f"v{random.choices(range(each), weights)[0]}")
        for repository in chosen
    ]


def _moves(
    fleet: Fleet, begin: float, versions: dict[Name, int], random: Random
) -> Iterator[Event]:
    """Move tags, none of them twice before all have moved."""
    order = random.sample(fleet.names, fleet.tags)
    times = sorted(begin + random.uniform(0, WORK) for _ in range(fleet.moves))
    for number, at in enumerate(times):
        name = order[number % fleet.tags]
        versions[name] += 1
        yield Move(at, name, versions[name])


def _outage(begin: float, random: Random) -> Iterator[Event]:
    at = begin + random.uniform(0, WORK)
    yield Outage(at, down=True)
    yield Outage(at + random.uniform(300, 5400), down=False)


def _foreign(fleet: Fleet, end: float, random: Random) -> Iterator[Event]:
    if fleet.foreign:
        pace = 6 * 3600 / fleet.foreign
        at = random.uniform(0, pace)
        while at < end:
            yield Foreign(at)
            at += pace
