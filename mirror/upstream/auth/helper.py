"""Credential helpers: asking one for an account (docker-credential-helpers, "Development")."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress

from mirror.upstream.auth.credentials import Credentials, CredentialsUnavailable

SUFFIX = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
IDENTITY = "<token>"  # the user name that says: the secret is an identity token
_NOT_FOUND = "credentials not found"  # how helpers say so, on standard output, with an exit code
_SHOWN = 200  # characters


async def ask(suffix: str, server: str, within: float = 10.0) -> Credentials | None:
    """Ask `docker-credential-SUFFIX` for a server's account; None if it has none.

    It gets the server on standard input, as it stands in the configuration: no shell, no
    arguments that could be seen. Raises CredentialsUnavailable if it is not there, fails, or takes
    longer than `within` seconds.
    """
    name = f"docker-credential-{suffix}"
    if not SUFFIX.fullmatch(suffix):
        raise CredentialsUnavailable(f"no credential helper is called {name!r}")
    try:
        process = await asyncio.create_subprocess_exec(
            name, "get", stdin=PIPE, stdout=PIPE, stderr=DEVNULL, start_new_session=True
        )
    except OSError as error:
        raise CredentialsUnavailable(f"{name} cannot be run", str(error.strerror)) from None
    try:
        async with asyncio.timeout(within):
            output, _ = await process.communicate(server.encode())
    except TimeoutError:
        raise CredentialsUnavailable(f"{name} does not answer", f"in {within} s") from None
    finally:
        await _end(process)
    return _read(name, process.returncode, output)


async def _end(process: Process) -> None:
    """End what still runs, and what it started: a helper may wait for somebody's password."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _read(name: str, code: int | None, output: bytes) -> Credentials | None:
    if code != 0 and _NOT_FOUND in output[:_SHOWN].decode(errors="replace"):
        return None
    if code != 0:
        raise CredentialsUnavailable(f"{name} fails", _words(output) or f"exit code {code}")
    try:
        answer = json.loads(output)
        username, secret = answer["Username"], answer["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CredentialsUnavailable(f"{name} is not understood") from None
    if not isinstance(username, str) or not isinstance(secret, str):
        raise CredentialsUnavailable(f"{name} is not understood")
    if not secret:
        return None
    return Credentials(username, secret, "refresh" if username == IDENTITY else "password")


def _words(output: bytes) -> str:
    """Return a message for the log, unless it may be an account after all."""
    text = " ".join(output[:_SHOWN].decode(errors="replace").split())
    return "" if "{" in text or not text.isprintable() else text
