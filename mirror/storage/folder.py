"""The folder's links, owners and modes: checked to be under the mirror's control alone."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from mirror.storage.errors import StoreError
from mirror.storage.shared_folders import refuse_shared
from mirror.util import permissions

_log = logging.getLogger(__name__)

_SHARDED = ("blobs/sha256", "blobs/sha512")
_FOLDERS = ("blobs", *_SHARDED, "partial", "quarantine")
_SHARD = re.compile("[0-9a-f]{2}")
_FILES = ("index.db", "index.db-wal", "index.db-shm", "index.fresh", "lock")
_OPENED = (*_FILES, "key")


def unusable(root: Path) -> Iterator[str]:
    """Yield the reasons why a start could not use a data folder; changes nothing in it."""
    try:
        refuse_shared(root)
        if (error := permissions.write_error(root)) is not None:
            yield _unwritable(root, error)
        elif closed := [*_closed_to_us(root)]:
            yield from closed
        elif root.exists():
            check(root)
    except StoreError as refused:
        yield str(refused)
    except OSError as error:
        yield _unwritable(root, error)


def _unwritable(root: Path, error: OSError) -> str:
    return f"cannot write to the data folder {root}: {permissions.explain_refusal(error, root)}"


def _closed_to_us(root: Path) -> Iterator[str]:
    for name in (*_FOLDERS, *_OPENED):
        path = root / name
        if os.path.lexists(path) and (error := permissions.write_error(path)) is not None:
            yield f"cannot write to {path}: {permissions.explain_refusal(error, root)}"


def no_link(path: str, flags: int) -> int:
    """Open a file, for `open`; raises OSError for a symbolic link."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def check(root: Path) -> None:
    """Refuse a data folder that another user could have prepared; raises StoreError, OSError.

    Its group may write to it, as for a Kubernetes volume (`fsGroup`), and its owner may differ from
    the daemon's user: a mounted volume's does, or the folder's when root runs a command. In a
    world-writable place such as /tmp, it must belong to the user.
    """
    root = root.resolve()
    found = root.stat()
    if found.st_uid not in (os.geteuid(), 0) and not root.is_mount() and _in_public(root):
        raise StoreError(
            f"the data folder {root} belongs to user {found.st_uid}, in a world-writable "
            f"place: choose another with --data-dir, or have user {os.geteuid()} create it"
        )
    for name in _FOLDERS:
        _check_kind(root / name, stat.S_ISDIR, "folder")
    for name in _SHARDED:
        for shard in _odd_shards(root / name):
            _check_kind(shard, stat.S_ISDIR, "folder")
    for name in _FILES:
        _check_kind(root / name, stat.S_ISREG, "file")


def _odd_shards(folder: Path) -> Iterator[Path]:
    """Find entries with a shard's name (two hex digits) that are not folders.

    The folder's listing tells their types: none of its hundreds of entries is opened (measured: 0.1
    ms for 256).
    """
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if _SHARD.fullmatch(entry.name) and not entry.is_dir(follow_symlinks=False):
                yield Path(entry.path)


def _check_kind(path: Path, is_kind: Callable[[int], bool], kind: str) -> None:
    """Refuse a link, or anything but a plain file or folder, under one of the mirror's names."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(mode):
        raise StoreError(
            f"{path} is a link to {path.readlink()}: links in the data folder are not followed; "
            "remove it, and mount its target there, or choose that with --data-dir"
        )
    if not is_kind(mode):
        raise StoreError(f"{path} is not a plain {kind}: remove it, or choose another --data-dir")


def close_to_others(root: Path) -> None:
    """Remove the world-writable mode of the data folder, if possible; raises StoreError.

    A mounted folder was put there by an administrator, and some file systems (SMB, FAT) show this
    mode unconditionally: then the start goes on with a warning.
    """
    root = root.resolve()
    found = root.stat()
    if not found.st_mode & stat.S_IWOTH:
        return
    if not root.is_mount():
        with contextlib.suppress(PermissionError):
            root.chmod(stat.S_IMODE(found.st_mode) & ~stat.S_IWOTH)
    if not root.stat().st_mode & stat.S_IWOTH:
        _log.warning("the data folder %s was world-writable: that permission is removed", root)
    elif root.is_mount() or not _in_public(root):
        _log.warning("the data folder %s is world-writable: run chmod o-w on it", root)
    else:
        raise StoreError(f"the data folder {root} is world-writable: run chmod o-w on it")


def _in_public(root: Path) -> bool:
    """Whether one of the parent folders is world-writable."""
    return any(parent.stat().st_mode & stat.S_IWOTH for parent in root.parents)
