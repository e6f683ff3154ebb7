"""The path of the control socket, for the daemon that listens there and for commands."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

SOCKET = "control.sock"
_CONNECT = 1.0  # seconds


@contextmanager
def short_path(folder: Path) -> Iterator[str]:
    """Yield a path of the socket that fits into its 108 bytes, however deep the folder is."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)


class Connection(HTTPConnection):
    """A connection to the daemon at a path; `timeout` in seconds is for each wait."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("mirror", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to its socket; raises OSError."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def is_served(folder: Path) -> bool:
    """Whether a daemon uses a data folder, if its socket may be reached."""
    try:
        with short_path(folder) as path, closing(Connection(path, _CONNECT)) as connection:
            connection.connect()
    except OSError:
        return False
    return True
