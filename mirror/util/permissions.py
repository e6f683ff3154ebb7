"""Permissions of files: refusals by the system, and their remedies."""

from __future__ import annotations

import errno
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

_DENIED = frozenset({errno.EACCES, errno.EPERM})


def explain_refusal(error: OSError, root: Path) -> str:
    """Return why the system refused access to the data folder, and the remedy."""
    why = error.strerror or str(error)
    if error.errno not in _DENIED:
        return why
    path = Path(str(error.filename)) if error.filename else root
    return f"{why} for user {_user(os.geteuid())}; {_remedy(_nearest(path), root)}"


def explain_unreadable(error: OSError) -> str:
    """Return why the system refused to read a file of another user, and the remedy."""
    why = error.strerror or str(error)
    if error.errno not in _DENIED:
        return why
    refusal = f"{why} for user {_user(os.geteuid())}"
    if not isinstance(error.filename, str | Path):
        return refusal
    there = _nearest(Path(error.filename))
    try:
        found = there.stat()
    except OSError:
        return refusal
    owned = f"belongs to {_user(found.st_uid)} with mode {stat.S_IMODE(found.st_mode):04o}"
    return f"{refusal}; {there} {owned}: the mirror's user needs read access"


def read_error(file: Path) -> OSError | None:
    """Return the error that reading a file would raise; None if it would succeed.

    The file is not opened: the writer of a pipe would see it closed again.
    """
    try:
        file.stat()
    except OSError as error:
        return error
    readable = os.access(file, os.R_OK, effective_ids=True)
    return None if readable else _error(errno.EACCES, file)


def write_error(path: Path) -> OSError | None:
    """Return the error that a write to a path would raise; None if it would succeed."""
    there = _nearest(path)
    if there != path and not there.is_dir():
        return _error(errno.ENOTDIR, there)
    wanted = os.R_OK | os.W_OK | (os.X_OK if there.is_dir() else 0)
    if os.access(there, wanted, effective_ids=True):
        return None
    read_only = os.statvfs(there).f_flag & os.ST_RDONLY
    return _error(errno.EROFS if read_only else errno.EACCES, there)


def _remedy(there: Path, root: Path) -> str:
    me = _user(os.geteuid())
    try:
        owner = there.stat().st_uid
    except OSError:
        return f"`chown -R {me} {root}` makes it that user's"
    if owner == os.geteuid():
        return f"{there} is that user's, but closed: `chmod -R u+rwX {there}` opens it"
    belongs = f"{there} belongs to {_user(owner)}"
    if there == root or root in there.parents:
        return f"{belongs}: `chown -R {me} {root}` makes it that user's"
    return f"{belongs}: `install -d -o {me} {root}` makes the folder for that user"


def _nearest(path: Path) -> Path:
    """Return the path, or its nearest parent that exists and is visible."""
    return next(each for each in _upwards(path.absolute()) if os.path.lexists(each))


def _upwards(path: Path) -> Iterator[Path]:
    yield path
    yield from path.parents


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _error(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))
