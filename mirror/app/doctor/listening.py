"""The program that listens on a port of this machine, by /proc, as far as this user may see it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")
_LISTENS = "0A"  # the state, in /proc/net/tcp


def listening(port: int) -> str:
    """Return the program and process id that listens on a port, "" if it cannot be seen."""
    sockets = {f"socket:[{inode}]" for inode in _inodes(port)}
    for process in _PROC.iterdir() if sockets else ():
        if process.name.isdigit() and _has(process, sockets):
            return f"{_name(process)} (process {process.name})"
    return ""


def _inodes(port: int) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        try:
            lines = (_PROC / "net" / table).read_text("ascii").splitlines()[1:]
        except (OSError, ValueError):
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]


def _has(process: Path, sockets: set[str]) -> bool:
    try:
        return any(str(each.readlink()) in sockets for each in (process / "fd").iterdir())
    except OSError:  # another user's process, or an ended one
        return False


def _name(process: Path) -> str:
    try:
        name = (process / "comm").read_text("utf-8", "replace").strip()
    except OSError:
        return "a program"
    return name if name.isprintable() else "a program"
