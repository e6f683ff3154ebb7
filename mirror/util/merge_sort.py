"""Sorting on a thread: a sort of many items in one go blocks all other threads."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, TypeVar

T = TypeVar("T")
_RUN = 4096  # items that are sorted in one go


def merge_sorted(items: Iterable[T], key: Callable[[T], Any] = lambda item: item) -> list[T]:
    """Return the items in order, as `sorted` does, also for those of equal keys."""
    ahead = iter(items)
    runs = []
    while run := list(islice(ahead, _RUN)):
        runs.append(sorted(run, key=key))
    return runs[0] if len(runs) == 1 else list(heapq.merge(*runs, key=key))
