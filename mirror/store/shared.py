"""Folders that are no data folder: the system's, and homes."""

from __future__ import annotations

from pathlib import Path

from mirror.store.errors import StoreError

# Others keep their files in these: the mirror would write among them, and close them to others.
_SYSTEM = frozenset(
    {
        *("/", "/dev", "/home", "/media", "/mnt", "/opt", "/root", "/run", "/srv", "/usr"),
        *("/usr/local", "/var", "/var/cache", "/var/lib", "/var/log", "/var/opt", "/var/run"),
        *("/var/spool", "/tmp", "/var/tmp", "/dev/shm"),  # noqa: S108 - recognised, not used
    }
)
# In these no folder is for data either.
_TREES = frozenset(
    {
        *("/bin", "/boot", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sbin"),
        *("/sys", "/usr/bin", "/usr/include", "/usr/lib", "/usr/lib64", "/usr/libexec"),
        *("/usr/sbin", "/usr/share", "/usr/src"),
    }
)
_MOUNTED = frozenset({"/media", "/mnt", "/opt", "/srv"})  # a disk's own, often enough
_HOMES = Path("/home")


def refuse_shared(root: Path) -> None:
    """Refuse a data folder that others' files are kept in; raises StoreError.

    A mirror that has its data there already goes on, but in the root of all. The home of the
    mirror's own user may be its data folder: packages have it so.
    """
    path = root.resolve()
    shared = str(path) in _SYSTEM or not _TREES.isdisjoint(map(str, (path, *path.parents)))
    if not shared and path.parent != _HOMES:
        return
    if path != Path("/") and (path / "blobs").is_dir():
        return
    if str(path) in _MOUNTED and path.is_mount():
        return
    better = path / "mirror" if path.parent == _HOMES else Path("/var/lib/mirror")
    raise StoreError(
        f"data_dir is {str(root)!r}: a folder of the mirror's own is wanted, such as {better}"
    )
