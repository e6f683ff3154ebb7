"""The load of the daemon's modules: without the work that can wait, or is in vain."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

from mirror.util import system_trust


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Load modules meanwhile: no garbage is collected until the start is over, no CA is read.

    Modules make few reference cycles, so a collection looks through many objects and frees few: all
    collections took a tenth of a start (measured). `interpreter.settle` ends the pause.
    """
    gc.disable()
    with system_trust.read_at_first_use():
        yield
