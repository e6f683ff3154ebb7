"""The scenarios: fleets, limits, and disturbances that a mirror has to stand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tests.simulation.hub import Terms
from tests.simulation.trace import DAY, Fleet

NOON = 12 * 3600.0
_SHORT = 5  # days, where more would show no more


@dataclass(frozen=True, slots=True)
class Scenario:
    """A fleet before a hub. In `strict` scenarios only unavoidable pulls fail.

    `aside` has a mirror that asks about no tag ahead of its end play the trace, too.
    """

    name: str
    fleet: Fleet
    terms: Terms = field(default_factory=Terms)
    strict: bool = True
    days: int = 366  # at most
    aside: bool = False


# Few tags that move all day long: more changes than the limit lets through. Each tag is known
# before its first move.
_BUSY = Fleet(repositories=4, tags=20, moves=100, moves_from=1)
# Some tags that runners request every few minutes, all day long.
_HOT = Fleet(runners=10, repositories=4, tags=8, jobs=1000)
_NOONS = tuple(day * DAY + NOON for day in range(_SHORT))

SCENARIOS = (
    Scenario("a fleet's days", Fleet(), aside=True),
    Scenario("a few tags, requested all day", _HOT, days=_SHORT, aside=True),
    Scenario("a window on a fixed grid", Fleet(), Terms(fixed=True), days=_SHORT),
    Scenario("answers that take a while", Fleet(), Terms(seconds=0.1), days=_SHORT),
    Scenario("others spend 60 of the 100", Fleet(foreign=60), strict=False, days=_SHORT),
    Scenario("two manifests for each image", Fleet(platforms=2), strict=False),
    Scenario("a limit of 30, spent every day", _BUSY, Terms(limit=30), days=_SHORT),
    Scenario(
        "the same, restarted every noon",
        replace(_BUSY, restarts=_NOONS),
        Terms(limit=30),
        days=_SHORT,
    ),
    Scenario(
        "the same from the first moment on",
        replace(_BUSY, moves_from=0),
        Terms(limit=30),
        strict=False,
        days=_SHORT,
    ),
    Scenario(
        "a limit of 30, told by refusals only",
        _BUSY,
        Terms(limit=30, named=False, retry_after=True),
        strict=False,
        days=_SHORT,
    ),
)
