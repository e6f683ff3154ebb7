"""A cache of recently used values that tells its owner of evictions."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

from cachetools import Cache, LRUCache

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class EvictingCache(LRUCache[K, V]):
    """Up to `maxsize` values; `on_eviction` is called with each key that makes room for another.

    A key that is removed by its owner is no eviction. Values can be peeked at on a thread.
    """

    def __init__(self, maxsize: int, on_eviction: Callable[[K], object]) -> None:
        super().__init__(maxsize)
        self._on_eviction = on_eviction

    def peek(self, key: K) -> V | None:
        """Return a value without making it the most recently used."""
        try:
            return Cache.__getitem__(self, key)
        except KeyError:
            return None

    def peeked(self) -> list[tuple[K, V]]:
        """Return all keys and values without making any the most recently used."""
        return [(key, Cache.__getitem__(self, key)) for key in self]

    def popitem(self) -> tuple[K, V]:
        """Evict the least recently used value."""
        key, value = super().popitem()
        self._on_eviction(key)
        return key, value
