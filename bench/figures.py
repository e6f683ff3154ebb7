"""Figures: what was measured, round by round, and how it stands to its bar."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

MIRROR, REGISTRY, HUB = "mirror", "docker-registry", "hub"
NGINX = "nginx"  # the limit
Verdict = Literal["pass", "MISSED", "shown"]
Samples = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Bar:
    """What the mirror is to reach: times what `against` has, or a value of its own."""

    better: Literal["at least", "at most"]
    value: float
    against: str | None = REGISTRY

    def __str__(self) -> str:
        sign = ">=" if self.better == "at least" else "<="
        if self.against is None:
            return f"{sign} {self.value:g}"
        of = "" if self.against == REGISTRY else f" of {self.against}"
        return f"{sign} x{self.value:g}{of}"

    def passes(self, value: float) -> bool:
        """Tell whether a ratio (or a value, where there is nothing to compare with) is enough."""
        compare: Callable[[float, float], bool] = (
            operator.ge if self.better == "at least" else operator.le
        )
        return compare(value, self.value)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the result: the samples of every round, by who was measured."""

    row: str
    what: str
    unit: str
    samples: Mapping[str, Sequence[float]]
    bar: Bar | None = None
    notes: tuple[str, ...] = field(default=())

    def median(self, name: str) -> float | None:
        """Return the median of one's rounds; None if it was not measured."""
        samples = self.samples.get(name)
        return statistics.median(samples) if samples else None

    def times(self, name: str) -> float | None:
        """Return how many times another's median the mirror's is."""
        mine, other = self.median(MIRROR), self.median(name)
        return mine / other if mine is not None and other else None

    @property
    def verdict(self) -> Verdict:
        """How the mirror stands to the bar."""
        if self.bar is None:
            return "shown"
        reached = self.times(self.bar.against) if self.bar.against else self.median(MIRROR)
        return "pass" if reached is not None and self.bar.passes(reached) else "MISSED"


def at_least(times: float) -> Bar:
    """Ask for so many times docker-registry's, or more."""
    return Bar("at least", times)


def at_most(times: float, against: str | None = REGISTRY) -> Bar:
    """Ask for so many times another's, or less."""
    return Bar("at most", times, against)
