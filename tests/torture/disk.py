"""The daemon's traces on the machine: files, index rows, descriptors, threads; only read."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.folder import read_digests

_BLOCK = 512  # bytes, the unit of st_blocks
_SAMPLES_EVERY = 0.05  # s


@dataclass(frozen=True)
class Descriptors:
    """Open descriptors of a process, by their use."""

    content: tuple[str, ...]  # blobs and partials
    sockets: int
    others: int


@dataclass(frozen=True)
class Rows:
    """The rows of the index: sizes in bytes by digest, (digest, repository) pairs, tags.

    `tags` are digests, by repository.
    """

    sizes: dict[str, int]
    links: frozenset[tuple[str, str]]
    tags: dict[str, str] = field(default_factory=dict)


def blobs(folder: Path) -> dict[str, Path]:
    """List the kept files by digest."""
    return {f"sha256:{path.name}": path for path in folder.glob("blobs/sha256/*/*")}


def identities(folder: Path) -> dict[str, tuple[int, int]]:
    """Return inode and time of each kept file: a later file of the same digest differs."""
    found: dict[str, tuple[int, int]] = {}
    for digest, path in blobs(folder).items():
        with suppress(FileNotFoundError):
            state = path.stat()
            found[digest] = (state.st_ino, state.st_mtime_ns)
    return found


def partials(folder: Path) -> dict[str, Path]:
    """List the files in `partial/` by name."""
    return {path.name: path for path in folder.glob("partial/*")}


def digest_of(path: Path) -> str:
    """Hash a file."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def rows(folder: Path) -> Rows:
    """Read the index, without a lock on the daemon; a missing index has no rows."""
    path = folder / "index.db"
    if not path.exists():
        return Rows({}, frozenset())
    reading = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
    with closing(read_digests(reading)) as database:
        sizes = dict(database.execute("SELECT digest_text(digest), size FROM blob"))
        links = frozenset(
            database.execute("SELECT digest_text(digest), repository FROM named_link")
        )
        tags = dict(database.execute("SELECT repository, digest FROM tag WHERE tag = 'latest'"))
    return Rows(sizes, links, tags)


def used(folder: Path) -> int:
    """Return the bytes of the files' blocks; folders are not counted, as documented.

    Partials are counted first and no file is counted twice: a file that is renamed or evicted
    meanwhile makes the sum too small, never too large.
    """
    seen: set[int] = set()
    total = 0
    for path in (*folder.glob("partial/*"), *folder.glob("blobs/*/*/*"), *folder.glob("*")):
        with suppress(FileNotFoundError):
            state = path.stat()
            if path.is_file() and state.st_ino not in seen:
                seen.add(state.st_ino)
                total += state.st_blocks * _BLOCK
    return total


def descriptors(pid: int, folder: Path) -> Descriptors:
    """Count the descriptors of a process that keeps its data in `folder`."""
    content: list[str] = []
    counts: Counter[str] = Counter()
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            target = str(Path(entry.path).readlink())
            if target.startswith((f"{folder}/blobs", f"{folder}/partial")):
                content.append(target)
            else:
                counts["sockets" if target.startswith("socket:") else "others"] += 1
    return Descriptors(tuple(content), counts["sockets"], counts["others"])


def threads(pid: int) -> int:
    """Count the threads of a process."""
    return len([*Path(f"/proc/{pid}/task").iterdir()])


class Gauge:
    """Samples the folder's size in bytes while it runs: the largest, and the number of samples."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.most = 0
        self.samples = 0

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            self.most = max(self.most, await asyncio.to_thread(used, self._folder))
            self.samples += 1
            await asyncio.sleep(_SAMPLES_EVERY)
