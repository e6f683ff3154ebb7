"""The control socket's place, for the daemon that listens there and for commands."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOCKET = "control.sock"


@contextmanager
def short_path(folder: Path) -> Iterator[str]:
    """Lend a path of the socket that fits into its 108 bytes, however deep the folder is."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)
