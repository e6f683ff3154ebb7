"""A small root file system that runs: one program of this machine, and its libraries."""

import io
import platform
import re
import subprocess
import tarfile
from pathlib import Path

PROGRAM = "/bin/cat"
GREETING = "/greeting"
NATIVE = {"aarch64": "arm64", "x86_64": "amd64"}.get(platform.machine(), platform.machine())
FOREIGN = "amd64" if NATIVE == "arm64" else "arm64"


def rootfs(greeting: str) -> bytes:
    """Return a tar of the file system. In it, `PROGRAM GREETING` prints this greeting."""
    linked = subprocess.run(["ldd", PROGRAM], capture_output=True, check=True, text=True).stdout
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for name in (PROGRAM, *re.findall(r"(/\S+) \(0x", linked)):
            _add(archive, name, Path(name).read_bytes(), 0o755)
        _add(archive, GREETING, greeting.encode(), 0o644)
    return tar.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name.lstrip("/"))
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))
