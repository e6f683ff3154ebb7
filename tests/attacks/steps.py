"""The longest step of the event loop: what a peer makes it do at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

MOST = 0.05  # seconds of work that anything a peer sends may cost the loop at a time


@dataclass
class Longest:
    """The longest step so far, in seconds that the loop's own thread ran, and what it was."""

    seconds: float = 0.0
    what: str = ""


@contextmanager
def steps() -> Iterator[Longest]:
    """Measure each step of the loop by what its thread ran: a busy machine adds nothing to it."""
    longest = Longest()
    plain = asyncio.Handle._run

    def run(handle: asyncio.Handle) -> None:
        began = time.thread_time()
        plain(handle)
        took = time.thread_time() - began
        if took > longest.seconds:
            longest.seconds, longest.what = took, repr(handle)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.Handle, "_run", run)
        yield longest
