"""The doctor's checks of this machine: data folder, room, descriptors, index, certificate."""

from __future__ import annotations

import os
import pwd
import resource
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from mirror.admin.messages import Finding
from mirror.app.core import index_bytes, index_fault
from mirror.app.doctor.finding import fail, ok, warn
from mirror.app.max_size import in_bytes
from mirror.settings import Settings
from mirror.util.certificate_end import certificate_end
from mirror.util.units import duration, human

_SOON = 14 * 86_400  # seconds before a certificate's end
_FEW = 4096  # descriptors
_TIGHT = 512 * 1024 * 1024  # bytes of free room


def findings(settings: Settings, used: int | None) -> Iterator[Finding]:
    """Yield the findings; `used` are the bytes that the running mirror has stored."""
    folder = settings.data_dir.absolute()
    if folder.is_dir():
        yield _owner(folder)
        yield from _room(settings, folder, used)
        yield from _index(folder)
    else:
        yield ok("data folder", f"{folder} does not exist yet; the start makes it")
    yield _descriptors(settings)
    yield from _certificate(settings)


def _owner(folder: Path) -> Finding:
    found = folder.stat()
    owner, mode = _name(found.st_uid), stat.S_IMODE(found.st_mode)
    words = f"{folder} belongs to {owner}, mode {mode:04o}"
    if mode & stat.S_IROTH and mode & stat.S_IXOTH and any(folder.iterdir()):
        closed = f"`chmod o-rwx {folder}` closes it: it may hold private images"
        return warn("data folder", f"{words}: all users can list it", closed)
    if os.geteuid() not in (found.st_uid, 0):
        return warn(
            "data folder",
            f"{words}, and this command runs as {_name(os.geteuid())}",
            "run it as the mirror's user or as root, which have the mirror's view",
        )
    return ok("data folder", words)


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


def _room(settings: Settings, folder: Path, used: int | None) -> Iterator[Finding]:
    free, max_size = shutil.disk_usage(folder).free, in_bytes(settings.max_size, folder)
    words = f"{human(free)} are free, max_size is {human(max_size)}"
    advice = "lower max_size, or move the data folder to a larger disk"
    if used is not None:
        words = f"{human(used)} of {human(max_size)} are used, {human(free)} are free on the disk"
    if used is not None and free < max_size - used:
        what = f"{words}: the disk is full before max_size is reached"
        yield warn("room", what, advice)
    elif free < _TIGHT and used is None:
        yield warn("room", words, advice)
    else:
        yield ok("room", words)
    files = os.statvfs(folder)
    if files.f_files and files.f_favail * 50 < files.f_files:
        left = f"{files.f_favail} of {files.f_files} inodes are free"
        yield warn("inodes", left, "a blob takes one: use a file system with more of them")


def _index(folder: Path) -> Iterator[Finding]:
    index = folder / "index.db"
    if not index.exists():
        return
    began = time.monotonic()
    wrong = index_fault(index)
    if wrong is None:
        seconds = time.monotonic() - began
        yield ok("index", f"{human(index_bytes(folder))}, sound, checked in {seconds:.1f} s")
    else:
        yield fail("index", wrong, "restart the mirror: a damaged index is rebuilt at the start")


def _descriptors(settings: Settings) -> Finding:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(_FEW, 2 * settings.max_connections)
    words = f"{most} descriptors are allowed"
    if most < wanted:
        advice = f"allow {wanted}: LimitNOFILE= of the unit, or --ulimit nofile={wanted}"
        return warn("descriptors", words, advice)
    return ok("descriptors", words)


def _certificate(settings: Settings) -> Iterator[Finding]:
    if settings.tls_cert is None:
        return
    try:
        end = certificate_end(settings.tls_cert)
    except OSError:  # the configuration's checks report that
        return
    if end is None:
        yield warn("certificate", "its end cannot be read", "check tls_cert with `openssl x509`")
        return
    left = end - time.time()
    renew = "renew it: the mirror takes up the new file by itself"
    if left <= 0:
        yield fail("certificate", f"it ended {duration(-left)} ago", renew)
    elif left < _SOON:
        yield warn("certificate", f"it ends in {duration(left)}", renew)
    else:
        yield ok("certificate", f"it ends in {duration(left)}")
