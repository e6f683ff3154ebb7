"""The data folder is the mirror's alone: whether links, owners and modes leave it so."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from mirror import rights
from mirror.store.errors import StoreError
from mirror.store.shared import refuse_shared

_log = logging.getLogger(__name__)

_SHARDED = ("blobs/sha256", "blobs/sha512")
_FOLDERS = ("blobs", *_SHARDED, "partial", "quarantine")
_SHARD = re.compile("[0-9a-f]{2}")
_FILES = ("index.db", "index.db-wal", "index.db-shm", "index.fresh", "lock")
_OPENED = (*_FILES, "key")


def unusable(root: Path) -> Iterator[str]:
    """Say what would keep a start from using a data folder, and change nothing of it."""
    try:
        refuse_shared(root)
        if (error := rights.lacking(root)) is not None:
            yield f"cannot write to the data folder {root}: {rights.refusal(error, root)}"
        elif closed := [*_closed_to_us(root)]:
            yield from closed
        elif root.exists():
            check(root)
    except StoreError as refused:
        yield str(refused)
    except OSError as error:
        yield f"cannot write to the data folder {root}: {rights.refusal(error, root)}"


def _closed_to_us(root: Path) -> Iterator[str]:
    for name in (*_FOLDERS, *_OPENED):
        path = root / name
        if os.path.lexists(path) and (error := rights.lacking(path)) is not None:
            yield f"cannot write to {path}: {rights.refusal(error, root)}"


def check(root: Path) -> None:
    """Refuse a data folder that others could have prepared; raises StoreError, OSError.

    Its group may write into it, as that of a Kubernetes volume does (`fsGroup`), and it may belong
    to another than the daemon's user, as a mounted volume does, or one that root looks into.
    Where everybody may make folders, as in /tmp, it has to be the user's own.
    """
    root = root.resolve()
    found = root.stat()
    if found.st_uid not in (os.geteuid(), 0) and not root.is_mount() and _in_public(root):
        raise StoreError(
            f"the data folder {root} belongs to user {found.st_uid}, in a place where everybody "
            f"may make one: choose another with --data-dir, or have it made by user {os.geteuid()}"
        )
    for name in _FOLDERS:
        _check_kind(root / name, stat.S_ISDIR, "folder")
    for name in _SHARDED:
        for shard in _odd_shards(root / name):
            _check_kind(shard, stat.S_ISDIR, "folder")
    for name in _FILES:
        _check_kind(root / name, stat.S_ISREG, "file")


def _odd_shards(folder: Path) -> Iterator[Path]:
    """Find what is no folder under a name that blobs lie below: two digits of their digests.

    By what the folder says of each: none of hundreds is looked at (measured: 0.1 ms for 256).
    """
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if _SHARD.fullmatch(entry.name) and not entry.is_dir(follow_symlinks=False):
                yield Path(entry.path)


def _check_kind(path: Path, is_kind: Callable[[int], bool], kind: str) -> None:
    """Refuse what is there under one of our names and is no plain file or folder."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(mode):
        raise StoreError(
            f"{path} is a link to {path.readlink()}: the mirror follows none in its data folder; "
            "remove it, and mount or choose (--data-dir) the folder that it leads to"
        )
    if not is_kind(mode):
        raise StoreError(f"{path} is no plain {kind}: remove it, or choose another --data-dir")


def close_to_others(root: Path) -> None:
    """Let others write no more into the data folder, where that can be had; raises StoreError.

    What is mounted was put there by an administrator, and some file systems (SMB, FAT) show this
    mode whatever is asked of them: that is told, and no reason not to start.
    """
    root = root.resolve()
    found = root.stat()
    if not found.st_mode & stat.S_IWOTH:
        return
    if not root.is_mount():
        with contextlib.suppress(PermissionError):
            root.chmod(stat.S_IMODE(found.st_mode) & ~stat.S_IWOTH)
    if not root.stat().st_mode & stat.S_IWOTH:
        _log.warning("the data folder %s was writable by everybody: it is no longer", root)
    elif root.is_mount() or not _in_public(root):
        _log.warning("the data folder %s is writable by everybody: chmod o-w it", root)
    else:
        raise StoreError(f"the data folder {root} is writable by everybody: chmod o-w it")


def _in_public(root: Path) -> bool:
    """Whether everybody may make folders in one of those above."""
    return any(parent.stat().st_mode & stat.S_IWOTH for parent in root.parents)
