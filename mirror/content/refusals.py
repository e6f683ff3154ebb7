"""Refusals: recent refusals of upstreams, by repository; removed when an upstream is changed."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TypeVar

from mirror.oci.names import Repository

R = TypeVar("R")
V = TypeVar("V")


def forget(refusals: MutableMapping[tuple[Repository, R], V], upstream: str) -> None:
    """Remove the refusals of one upstream: its address or the mirror's account may have changed."""
    for key in [key for key in refusals if key[0].upstream == upstream]:
        refusals.pop(key, None)
