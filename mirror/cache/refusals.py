"""Refusals: what upstreams refused of late, by repository; forgotten of one that is another now."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TypeVar

from mirror.oci.names import Repository

R = TypeVar("R")
V = TypeVar("V")


def forget(refusals: MutableMapping[tuple[Repository, R], V], upstream: str) -> None:
    """Forget what one upstream refused: it may be asked elsewhere, or as somebody else, by now."""
    for key in [key for key in refusals if key[0].upstream == upstream]:
        refusals.pop(key, None)
