"""Refusals of upstreams: the requests that they concern, and their end when upstream changes."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TypeVar

from mirror.oci.errors import HostUnreachable, ManifestUnfit, TooManyRequests, UpstreamFailure
from mirror.oci.names import Repository

R = TypeVar("R")
V = TypeVar("V")


def forget(refusals: MutableMapping[tuple[Repository, R], V], upstream: str) -> None:
    """Remove the refusals of one upstream: its address or the mirror's account may have changed."""
    for key in [key for key in refusals if key[0].upstream == upstream]:
        refusals.pop(key, None)


def is_of_digest(failure: UpstreamFailure) -> bool:
    """Whether a GET by tag may succeed where a GET by digest failed: its path is another one.

    A pull limit, a share, an unreachable host and a document that must not be stored fail both.
    """
    if isinstance(failure, TooManyRequests):
        return type(failure) is TooManyRequests
    return not isinstance(failure, HostUnreachable | ManifestUnfit)
