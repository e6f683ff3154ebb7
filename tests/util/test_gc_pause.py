"""Pauses of the garbage collection, one within another."""

from __future__ import annotations

import gc

from mirror.util.gc_pause import gc_paused


def test_a_pause_within_another_does_not_end_it() -> None:
    with gc_paused():
        with gc_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
