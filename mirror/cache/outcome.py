"""How a request was answered, in the words of metrics, logs and Cache-Status."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """The five ways."""

    HIT = "hit"  # from the cache, upstream not asked
    MISS = "miss"  # upstream sent it
    REVALIDATED = "revalidated"  # upstream confirmed what the cache holds
    STALE = "stale"  # upstream could not be asked, the cache answered all the same
    ERROR = "error"  # neither could
