"""Folders that cannot be a data folder: the system's, and homes."""

from __future__ import annotations

from pathlib import Path

from mirror.storage.errors import StoreError

# Other programs keep files in these: the mirror would mix its files with theirs, and lock them out.
_SYSTEM = frozenset(
    {
        *("/", "/dev", "/home", "/media", "/mnt", "/opt", "/root", "/run", "/srv", "/usr"),
        *("/usr/local", "/var", "/var/cache", "/var/lib", "/var/log", "/var/opt", "/var/run"),
        *("/var/spool", "/tmp", "/var/tmp", "/dev/shm"),  # noqa: S108 - recognised, not used
    }
)
# Nor can any folder inside these be a data folder.
_TREES = frozenset(
    {
        *("/bin", "/boot", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sbin"),
        *("/sys", "/usr/bin", "/usr/include", "/usr/lib", "/usr/lib64", "/usr/libexec"),
        *("/usr/sbin", "/usr/share", "/usr/src"),
    }
)
_MOUNTED = frozenset({"/media", "/mnt", "/opt", "/srv"})  # often the mount point of a separate disk
_HOMES = Path("/home")


def refuse_shared(root: Path) -> None:
    """Refuse a data folder that other programs use; raises StoreError.

    A folder with a mirror's data in it is accepted, except for the root folder. The home of the
    mirror's user may be its data folder, as in packages.
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
        f"data_dir is {str(root)!r}: choose a folder for the mirror alone, such as {better}"
    )
