"""htpasswd: client users and their bcrypt hashes, followed when their file changes."""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import bcrypt
from cachetools import TTLCache

from mirror.cache.caller import is_client_name
from mirror.flight import Flights

_log = logging.getLogger(__name__)

# Above a cost of 14 one login takes a core for seconds.
_HASH = re.compile(r"\$2[aby]\$(?:0[4-9]|1[0-4])\$[./A-Za-z0-9]{53}", re.ASCII)
_READ = 72  # bytes of a password that bcrypt reads; htpasswd cuts it there, too
_REMEMBERED = 300.0  # seconds in which a password is not looked at again
_KEPT = 4096
_AT_ONCE = 2  # each takes a core for tens of milliseconds and longer
_LOOK_EVERY = 1.0  # seconds between looks at the file


class HtpasswdError(Exception):
    """The file cannot be used; the message names the line, never what it holds."""


class Htpasswd:
    """Tells whether a name and a password go together; raises HtpasswdError at the start.

    What was checked is remembered under a keyed hash that lasts as long as the process.
    """

    def __init__(self, file: Path, timer: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._timer = timer
        self._stamp = _stamp(file)
        self._users = _read(file)
        self._looked = timer()
        self._key = secrets.token_bytes(32)
        self._known: TTLCache[bytes, bool] = TTLCache(_KEPT, _REMEMBERED, timer)
        self._checks: Flights[bytes, bool] = Flights()
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def __repr__(self) -> str:
        return f"<Htpasswd {self._file}: {len(self._users)} users>"

    async def close(self) -> None:
        """Stop what runs."""
        await self._checks.close()

    def remembers(self, name: str, password: str) -> bool | None:
        """Return what was found of them lately; None if nothing was, or the file may differ."""
        if self._timer() - self._looked > _LOOK_EVERY:
            return None
        return self._known.get(self._fingerprint(name, password))

    async def check(self, name: str, password: str) -> bool:
        """Tell whether the file has this user with this password."""
        if self._timer() - self._looked > _LOOK_EVERY:
            self._looked = self._timer()
            await asyncio.to_thread(self._follow)
        key = self._fingerprint(name, password)
        known = self._known.get(key)
        if known is not None:
            return known
        return await self._checks.join(key, lambda: self._compare(key, name, password))

    async def _compare(self, key: bytes, name: str, password: str) -> bool:
        """Compare with the user's hash; a name that nobody has takes as long as one that is."""
        users = self._users
        hashed = users.get(name)
        against = hashed or next(iter(users.values()), None)
        async with self._turns:
            right = against is not None and await asyncio.to_thread(_matches, password, against)
        found = right and hashed is not None
        if users is self._users:
            self._known[key] = found
        return found

    def _fingerprint(self, name: str, password: str) -> bytes:
        return hmac.digest(self._key, f"{name}\0{password}".encode(), "sha256")

    def _follow(self) -> None:
        stamp = _stamp(self._file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._users = _read(self._file)
        except HtpasswdError as error:
            _log.error("htpasswd %s: %s; the users are as they were", self._file, error)
        else:
            self._known.clear()
            _log.info("htpasswd %s was read again", self._file)


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def _read(file: Path) -> dict[str, bytes]:
    try:
        lines = file.read_text("utf-8").splitlines()
    except OSError as error:
        raise HtpasswdError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise HtpasswdError("cannot be read: UTF-8 is wanted") from None
    users = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, hashed = line.strip().partition(":")
        if not is_client_name(name) or not _HASH.fullmatch(hashed):
            raise HtpasswdError(
                f"line {number}: NAME:HASH is wanted, the name beginning with a letter, the hash "
                "one of bcrypt with a cost of at most 14, as `htpasswd -B` makes it"
            )
        users[name] = hashed.encode()
    return users


def _matches(password: str, hashed: bytes) -> bool:
    given = password.encode()
    return b"\0" not in given and bcrypt.checkpw(given[:_READ], hashed)
