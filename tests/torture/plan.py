"""The plan: the pulls and faults of a round and their times, from the seed alone. Pure.

Round N depends on the seed and N only, so that a run of any length is replayed by its seed.
Images are without end; each round pulls some new ones and some of earlier rounds.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tests.fuzz import talks, traps
from tests.fuzz.plays import Play

KIB, MIB = 1024, 1024 * 1024
FRESH = 4  # images that each round adds
WINDOW = 12  # the newest images, which a round pulls from
TAGS = 8  # names that are pulled; each means another image from round to round

Mood: TypeAlias = Literal["mended", "calm", "crash", "tight", "storm", "hostile"]
# mended: only faults that no client may see; calm: only faults of upstream, so that its bytes are
# bounded strictly; crash: kill -9 too; tight: far less room than is pulled; storm: all at once;
# hostile: faults that no client may see, with attacks of clients and upstreams, which explain no
# failure.
MOODS: tuple[Mood, ...] = ("mended", "crash", "tight", "storm", "calm", "hostile")
HOSTILE: Mood = "hostile"  # given as a trouble, it is the mood of each round
QUIET: frozenset[Mood] = frozenset({"mended", "calm", "hostile"})  # no departure, death or eviction

_HARMLESS: frozenset[Mood] = frozenset({"mended", "hostile"})  # to clients: explains no failure
# Attacks that no client may feel, drawn as the fuzz draws its plays.
_TALKS = (talks.chunks, talks.slow, talks.orphans)
_TRAPS = (traps.claims, traps.silence, traps.tiny, traps.readers, traps.far)

Trouble: TypeAlias = Literal[
    "cut", "stall", "corrupt", "no_range", "bad_range", "no_head", "slow", "short", "429", "5xx",
    "drop", "hang", "page", "token", "content", "401", "403", "404",
]  # fmt: skip
# Troubles that a client may see, unless the content is kept. REFUSALS: with any content, for the
# mirror may leave a failing upstream alone for a while (`content`: the content network refuses).
# MISTAKES: with the content that the registry denies. SPOILS: with the spoilt blob.
REFUSALS: frozenset[Trouble] = frozenset({"429", "5xx", "drop", "hang", "page", "token", "content"})
MISTAKES: frozenset[Trouble] = frozenset({"401", "403", "404"})
BREAKS: frozenset[Trouble] = frozenset({"cut", "stall"})
SPOILS: frozenset[Trouble] = frozenset({"corrupt", "short"})
# Troubles that no client may see: a refused range or HEAD decides nothing.
MENDED: tuple[Trouble, ...] = (
    "cut", "cut", "stall", "no_range", "bad_range", "no_head", "slow"
)  # fmt: skip
_OF_MANIFESTS = (REFUSALS | MISTAKES | {"no_head"}) - {"content"}
ALL: tuple[Trouble, ...] = (*MENDED, *sorted(SPOILS), *sorted(REFUSALS), *sorted(MISTAKES))

Manner: TypeAlias = Literal["plain", "slow", "leaves", "ranges", "deaf"]
MANNERS: tuple[Manner, ...] = ("plain", "plain", "plain", "slow", "leaves", "ranges", "deaf")


@dataclass(frozen=True)
class ImagePlan:
    """An image: `layers` are sizes in bytes, `base` is the number of its base image."""

    number: int
    layers: tuple[int, ...]
    base: int | None


@dataclass(frozen=True)
class FaultPlan:
    """A fault for `times` answers; it strikes a blob of an image, or (None) any manifest.

    `at` is its place in the body, as a fraction.
    """

    trouble: Trouble
    image: int
    blob: int | None
    at: float
    times: int


@dataclass(frozen=True)
class ClientPlan:
    """A client: its tag or image, its beginning (in s), and its manner.

    `seed` decides its ranges; `share` is the part of a body after which it leaves. A client with
    an `image`, which its tag means now, pulls by digest; without, it resolves the tag, and may get
    a stale digest.
    """

    tag: int
    image: int | None
    begins: float
    manner: Manner
    share: float
    seed: int


@dataclass(frozen=True)
class Outage:
    """Upstream is gone from `begins` on, for so many seconds."""

    begins: float
    lasts: float


@dataclass(frozen=True)
class Denial:
    """The token service answers every client with this status from `begins` on, for seconds."""

    begins: float
    lasts: float
    status: int


@dataclass(frozen=True)
class RoundPlan:
    """One round of `lasts` seconds. `tags` are image numbers, by tag; `max_size` in bytes."""

    number: int
    mood: Mood
    lasts: float
    max_size: int
    tags: tuple[int, ...]
    faults: tuple[FaultPlan, ...]
    clients: tuple[ClientPlan, ...]
    kills: tuple[float, ...]
    outages: tuple[Outage, ...]
    denials: tuple[Denial, ...]
    attacks: tuple[Play, ...] = ()


def plan_image(seed: int, number: int) -> ImagePlan:
    """Plan an image; every third has the image before it as base, and shares its layers."""
    chance = random.Random(f"{seed}/image/{number}")
    sizes = [chance.choice((2 * KIB, 40 * KIB, 300 * KIB, MIB, 3 * MIB)) for _ in range(2)]
    if number % 5 == 1:
        sizes.append(chance.randrange(16 * MIB, 24 * MIB))  # large enough to be abandoned midway
    layers = tuple(size + chance.randrange(1000) for size in sizes)
    return ImagePlan(number, layers, number - 1 if number % 3 == 2 else None)


def plan_round(
    seed: int,
    number: int,
    *,
    crowd: int = 24,
    lasts: float = 4.0,
    only: tuple[Trouble, ...] = (),
    hostile: bool = False,
) -> RoundPlan:
    """Plan a round: `crowd` clients, `lasts` seconds. The first six rounds have all moods.

    With `only`, upstream has just these troubles, and no outage. With `hostile`, each round has
    this mood.
    """
    chance = random.Random(f"{seed}/round/{number}")
    mood = MOODS[number] if number < len(MOODS) else chance.choice(MOODS)
    mood = HOSTILE if hostile else mood
    first = number * FRESH
    tags = tuple(chance.randrange(first, first + WINDOW) for _ in range(TAGS))
    rough = mood in ("crash", "storm")
    return RoundPlan(
        number=number,
        mood=mood,
        lasts=lasts,
        max_size=_quota(chance, mood),
        tags=tags,
        faults=tuple(_fault(chance, seed, tags, mood, only) for _ in range(chance.randint(4, 12))),
        clients=tuple(_client(chance, mood, tags, lasts) for _ in range(crowd)),
        kills=tuple(
            sorted(chance.uniform(0.2, lasts) for _ in range(chance.randint(1, 2) if rough else 0))
        ),
        outages=() if only else tuple(_outages(chance, mood, lasts)),
        denials=() if only else tuple(_denials(chance, mood, lasts)),
        attacks=tuple(_attacks(chance)) if mood == HOSTILE else (),
    )


def _quota(chance: random.Random, mood: Mood) -> int:
    if mood in ("tight", "storm"):
        return chance.randrange(12 * MIB, 40 * MIB)
    return 1024 * MIB


def _fault(
    chance: random.Random,
    seed: int,
    tags: tuple[int, ...],
    mood: Mood,
    only: tuple[Trouble, ...],
) -> FaultPlan:
    image = plan_image(seed, chance.choice(tags))
    trouble = chance.choice(only or (MENDED if mood in _HARMLESS else ALL))
    blobs = 1 + len(image.layers)  # the config is the first
    of_manifest = trouble in _OF_MANIFESTS and chance.random() < 0.4
    times = chance.randint(1, 2 if mood in QUIET else 4)
    blob = None if of_manifest else chance.randrange(blobs)
    return FaultPlan(trouble, image.number, blob, chance.random(), times)


def _client(chance: random.Random, mood: Mood, tags: tuple[int, ...], lasts: float) -> ClientPlan:
    quiet = tuple(m for m in MANNERS if m not in ("leaves", "deaf"))
    tag = chance.randrange(TAGS)
    return ClientPlan(
        tag=tag,
        image=tags[tag] if chance.random() < 0.5 else None,
        begins=chance.uniform(0, lasts * 0.8),
        manner=chance.choice(quiet if mood in QUIET else MANNERS),
        share=chance.random(),
        seed=chance.randrange(2**32),
    )


def _attacks(chance: random.Random) -> Iterator[Play]:
    """Draw the attacks: a hostile client of each manner, and two hostile upstreams."""
    yield from (draw(chance) for draw in _TALKS)
    yield from (draw(chance) for draw in chance.sample(_TRAPS, 2))


def _outages(chance: random.Random, mood: Mood, lasts: float) -> list[Outage]:
    if mood in QUIET or chance.random() < 0.5:
        return []
    return [Outage(chance.uniform(0, lasts / 2), chance.uniform(0.2, lasts / 3))]


def _denials(chance: random.Random, mood: Mood, lasts: float) -> list[Denial]:
    if mood in _HARMLESS or chance.random() < 0.5:
        return []
    begins, status = chance.uniform(0, lasts / 2), chance.choice((401, 403, 500))
    return [Denial(begins, chance.uniform(0.2, lasts / 3), status)]
