"""The search: many scenes, drawn from a seed; each failing scene is shrunk."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.differential.play import played
from tests.differential.scene import Deviation, Manner, Scene
from tests.differential.strategies import scenes

T = TypeVar("T", Scene, Deviation)


@dataclass(frozen=True)
class Found:
    """A counterexample."""

    scene: Scene
    wrong: tuple[str, ...]

    @property
    def way(self) -> str:
        """The kind of its first fault, without the parts that differ between examples."""
        return re.sub(r"sha256:\w+|\d{3,}|team/\w+|http\S+", "…", self.wrong[0])[:160]


def tried(number: int, examples: int, *manners: Manner, go_on: Callable[[], bool]) -> list[Found]:
    """Play so many examples of a seed while `go_on` allows it; returns those with faults."""
    found: list[Found] = []

    @seed(number)
    @settings(
        max_examples=examples,
        phases=(Phase.generate,),
        database=None,
        deadline=None,
        derandomize=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(scenes(*manners))
    def example(scene: Scene) -> None:
        if go_on() and (wrong := played(scene)):
            found.append(Found(scene, tuple(wrong)))

    example()
    return found


def shrunk(found: Found, play: Callable[[Scene], list[str]] = played) -> Found:
    """Leave out of a counterexample all parts that its fault does not need."""
    candidates = (each for each in _smaller(found.scene) if each == each.sound())
    for each in candidates:
        if wrong := play(each):
            return shrunk(Found(each, tuple(wrong)), play)
    return found


def _smaller(scene: Scene) -> Iterator[Scene]:
    several = scene.deviations
    for number in range(len(several)):
        yield replace(scene, deviations=several[:number] + several[number + 1 :])
    yield from _plainer(scene, "deviations")
    for number, each in enumerate(several):
        for other in _plainer(each, "kind", "method", "status", "headers", "act", "body"):
            yield replace(scene, deviations=(*several[:number], other, *several[number + 1 :]))


def _plainer(thing: T, *but: str) -> Iterator[T]:
    """Yield copies, each with one more field at its default."""
    for each in fields(thing):
        if each.name not in but and getattr(thing, each.name) != each.default:
            change: dict[str, Any] = {each.name: each.default}
            yield replace(thing, **change)
