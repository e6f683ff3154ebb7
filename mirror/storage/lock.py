"""The lock on the data folder: held by one process; later ones report its id."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
from pathlib import Path
from typing import IO

from mirror.storage.errors import StoreError
from mirror.storage.folder import no_link

_HOLDER = re.compile(r"(\d{1,10}) ([\w.-]{1,253})\n", re.ASCII)


def take(root: Path) -> IO[bytes]:
    """Lock the folder until the file is closed or the process ends; raises StoreError, OSError."""
    file = open(root / "lock", "a+b", opener=no_link)  # noqa: SIM115 - held
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = _read(file)
        file.close()
        raise StoreError(f"another mirror is using the data folder {root}{holder}") from None
    _sign(file)
    return file


def _sign(file: IO[bytes]) -> None:
    """Write the holder to the lock file. A full disk does not prevent the start."""
    with contextlib.suppress(OSError):
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), f"{os.getpid()} {socket.gethostname()}\n".encode())


def _read(file: IO[bytes]) -> str:
    """Return the holder, if it is known. A container's process id is relative to the container."""
    try:
        text = os.pread(file.fileno(), 512, 0).decode("ascii", "replace")
    except OSError:
        return ""
    holder = _HOLDER.fullmatch(text)
    if holder is None:
        return ""
    where = "" if holder[2] == socket.gethostname() else f" on {holder[2]}"
    return f": process {holder[1]}{where}"
