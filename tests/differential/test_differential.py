"""Whatever a plain client gets directly, each manner of client gets through the mirror."""

from __future__ import annotations

from typing import get_args

import pytest

from tests.differential.__main__ import report
from tests.differential.scene import Deviation, Manner, Scene, read
from tests.differential.search import tried

SEED = 7
EXAMPLES = 25  # of each manner; `make differential` tries others, for as long as one likes


@pytest.mark.parametrize("manner", get_args(Manner))
def test_what_is_had_directly_is_had_through_the_mirror(manner: Manner) -> None:
    number = SEED + get_args(Manner).index(manner)  # else all manners would have the same examples
    found = tried(number, EXAMPLES, manner, go_on=lambda: True)
    assert not found, "\n".join(map(report, found))


def test_a_scene_is_read_as_it_is_printed() -> None:
    deviation = Deviation("tag", "HEAD", 2, status=429, headers=(("Retry-After", None),))
    for scene in (Scene(), Scene("head", (deviation, Deviation(act="drop")), warm=True)):
        assert read(repr(scene)) == scene
