"""The evicting cache: the least recently used entry is evicted, and its owner is told."""

from __future__ import annotations

from mirror.util.evicting_cache import EvictingCache


def filled() -> tuple[EvictingCache[str, int], list[str]]:
    """Return a full cache of `a` and `b`, and the keys that it evicted."""
    evicted: list[str] = []
    cache: EvictingCache[str, int] = EvictingCache(2, on_eviction=evicted.append)
    cache["a"], cache["b"] = 1, 2
    return cache, evicted


def test_the_least_recently_used_is_evicted_and_told() -> None:
    cache, evicted = filled()
    assert cache["a"] == 1
    cache["c"] = 3
    assert evicted == ["b"]
    assert sorted(cache) == ["a", "c"]


def test_to_peek_is_no_use() -> None:
    cache, evicted = filled()
    assert cache.peek("a") == 1
    assert cache.peek("other") is None
    assert cache.peeked() == [("a", 1), ("b", 2)]
    cache["c"] = 3
    assert evicted == ["a"]


def test_what_its_owner_removes_is_not_evicted() -> None:
    cache, evicted = filled()
    assert cache.pop("a") == 1
    assert cache.pop("a", None) is None
    cache["c"] = 3
    assert not evicted
