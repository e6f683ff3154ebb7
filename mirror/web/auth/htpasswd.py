"""htpasswd: client users and their bcrypt hashes, read again when their file changes."""

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

from mirror.identity.client import is_client_name
from mirror.oci.errors import ClientTooFast
from mirror.util.file_watch import FileWatch
from mirror.util.permissions import explain_unreadable
from mirror.util.singleflight import SingleFlight

_log = logging.getLogger(__name__)

# Above a cost of 14, one login occupies a core for seconds.
_HASH = re.compile(r"\$2[aby]\$(?:0[4-9]|1[0-4])\$[./A-Za-z0-9]{53}", re.ASCII)
_READ = 72  # bytes of a password that bcrypt reads; htpasswd truncates there, too
_REMEMBERED = 300.0  # seconds for which the result for a password is reused
_KEPT = 4096
_AT_ONCE = 2  # each occupies a core for tens of milliseconds or longer
_WAITING = 64  # checks that may wait; further ones are refused
_AGAIN = 2  # seconds: by then the waiting checks are done
_SALT = b"." * 22


class HtpasswdError(Exception):
    """The file cannot be used; the message names the line, but never quotes it."""


class Htpasswd:
    """Checks users' passwords; the constructor raises HtpasswdError.

    Results are remembered under a keyed hash; its key lasts as long as the process.
    """

    def __init__(self, htpasswd: Path, timer: Callable[[], float] = time.monotonic) -> None:
        self._file = htpasswd
        self._watch = FileWatch(htpasswd)
        self._users = Users(_read(htpasswd))
        self._key = secrets.token_bytes(32)
        self._known: TTLCache[bytes, bool] = TTLCache(_KEPT, _REMEMBERED, timer)
        self._checks: SingleFlight[bytes, bool] = SingleFlight()
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def __repr__(self) -> str:
        return f"<Htpasswd {self._file}: {len(self._users)} users>"

    async def close(self) -> None:
        """Stop running checks."""
        await self._checks.close()

    async def renew(self) -> None:
        """Read the file again if it has changed; the users stay if it cannot be used."""
        file, watch = self._file, self._watch
        if not await watch.changed() or watch is not self._watch:
            return
        try:
            users = Users(await asyncio.to_thread(_read, file))
        except HtpasswdError as error:
            _log.error("htpasswd %s: %s; the users are unchanged", file, error)
            return
        if watch is self._watch:  # not replaced by a reload meanwhile
            self._users = users
            _log.info("htpasswd %s was read again", file)

    def change(self, anew: Htpasswd) -> None:
        """Take over newly read users, of the same file or of another."""
        self._file, self._watch, self._users = anew._file, anew._watch, anew._users

    def remembers(self, name: str, password: str) -> bool | None:
        """Return the latest result for a name and password; None if there is none."""
        return self._known.get(self._fingerprint(name, password))

    async def check(self, name: str, password: str) -> bool:
        """Whether the file has this user with this password; raises ClientTooFast.

        Hashing is slow by design: a client that sends more passwords than can be checked soon must
        not make all others wait.
        """
        key = self._fingerprint(name, password)
        known = self._known.get(key)
        if known is not None:
            return known
        if len(self._checks) >= _WAITING and self._checks.get(key) is None:
            raise ClientTooFast("too many logins are being checked", retry_after=_AGAIN)
        return await self._checks.join(key, lambda: self._compare(key, name, password))

    async def _compare(self, key: bytes, name: str, password: str) -> bool:
        users = self._users
        async with self._turns:
            found = self._known[key] = await asyncio.to_thread(users.have, name, password)
        return found

    def _fingerprint(self, name: str, password: str) -> bytes:
        """Return the key of a result; a new hash of the user changes it, and is checked."""
        question = b"\0".join((self._users.hash(name), name.encode(), password.encode()))
        return hmac.digest(self._key, question, "sha256")


class Users:
    """The users of a file. A wrong login takes the same time for each user, existing or not."""

    def __init__(self, hashes: dict[str, bytes]) -> None:
        self._hashes = hashes
        self._slowest = max(hashes.values(), key=_cost, default=None)

    def __len__(self) -> int:
        return len(self._hashes)

    def hash(self, name: str) -> bytes:
        """Return a user's hash, empty if there is no such user."""
        return self._hashes.get(name, b"")

    def have(self, name: str, password: str) -> bool:
        """Whether a user has this password. Slow: to be run on a thread."""
        given = password.encode()
        if self._slowest is None or b"\0" in given:
            return False
        hashed = self._hashes.get(name, self._slowest)
        right = bcrypt.checkpw(given[:_READ], hashed) and name in self._hashes
        if not right:  # each cost takes twice as long as the previous: the sum is the slowest's
            for cost in range(_cost(hashed), _cost(self._slowest)):
                bcrypt.hashpw(given[:_READ], b"$2b$%02d$%s" % (cost, _SALT))
        return right


def _cost(hashed: bytes) -> int:
    return int(hashed.split(b"$")[2])


def _read(file: Path) -> dict[str, bytes]:
    try:
        lines = file.read_text("utf-8").splitlines()
    except OSError as error:
        raise HtpasswdError(f"cannot be read: {explain_unreadable(error)}") from None
    except UnicodeDecodeError:
        raise HtpasswdError("cannot be read: it is not UTF-8") from None
    users = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, hashed = line.strip().partition(":")
        if not is_client_name(name) or not _HASH.fullmatch(hashed):
            raise HtpasswdError(
                f"line {number}: it must be NAME:HASH, the name beginning with a letter, the hash "
                "by bcrypt with a cost of at most 14, as `htpasswd -B` makes it"
            )
        users[name] = hashed.encode()
    return users
