"""Credential helpers: running one for an account (docker-credential-helpers, "Development")."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from typing import cast

from mirror.upstream.auth.credentials import Credentials, CredentialsUnavailable

SUFFIX = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
IDENTITY_USER = "<token>"  # the user name that marks the secret as an identity token
_NOT_FOUND = "credentials not found"  # helpers print this to standard output, and fail
_SHOWN = 200  # characters
_MOST = 64 * 1024  # bytes; the capacity of a pipe


class HelperMissing(CredentialsUnavailable):
    """A configured credential helper is not installed; a retry is of no use."""


async def ask(suffix: str, server: str, within: float = 10.0) -> Credentials | None:
    """Run `docker-credential-SUFFIX` for a server's account; None if it has none.

    The server is passed on standard input, as written in the configuration: without a shell, and
    without arguments that other processes could see. Raises HelperMissing if there is no such
    program, CredentialsUnavailable if it fails or takes longer than `within` seconds.
    """
    name = f"docker-credential-{suffix}"
    if not SUFFIX.fullmatch(suffix):
        raise CredentialsUnavailable(f"invalid credential helper name {name!r}")
    output, theirs = os.pipe()
    with os.fdopen(output, "rb", buffering=0) as printed:
        process = await _start(name, theirs)
        try:
            code = await _talk(process, server, within)
        except TimeoutError:
            raise CredentialsUnavailable(f"{name} does not answer", f"in {within} s") from None
        os.set_blocking(output, False)
        return _read(name, code, printed.read(_MOST) or b"")


async def _start(name: str, output: int) -> Process:
    try:
        return await asyncio.create_subprocess_exec(
            name, "get", stdin=PIPE, stdout=output, stderr=DEVNULL, start_new_session=True
        )
    except FileNotFoundError as error:
        raise HelperMissing(f"{name} cannot be run", str(error.strerror)) from None
    except OSError as error:
        raise CredentialsUnavailable(f"{name} cannot be run", str(error.strerror)) from None
    finally:
        os.close(output)


async def _talk(process: Process, server: str, within: float) -> int:
    """Send a helper the server, and return its exit code; raises TimeoutError.

    Its output is read after it has ended. A helper that prints more than a pipe holds (64 KiB) runs
    into the timeout; a process that it leaves running with the output open is not waited for.
    """
    stdin = cast("asyncio.StreamWriter", process.stdin)
    stdin.write(server.encode())
    stdin.close()
    try:
        async with asyncio.timeout(within):
            return await process.wait()
    finally:
        await _end(process)


async def _end(process: Process) -> None:
    """Kill a helper that still runs, and its children: it may be waiting for a password prompt."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _read(name: str, code: int, output: bytes) -> Credentials | None:
    if code != 0 and _NOT_FOUND in output[:_SHOWN].decode(errors="replace"):
        return None
    if code != 0:
        raise CredentialsUnavailable(f"{name} failed", _words(output) or f"exit code {code}")
    try:
        answer = json.loads(output)
        username, secret = answer["Username"], answer["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CredentialsUnavailable(f"{name} printed invalid output") from None
    if not isinstance(username, str) or not isinstance(secret, str):
        raise CredentialsUnavailable(f"{name} printed invalid output")
    if not secret:
        return None
    return Credentials(username, secret, "refresh" if username == IDENTITY_USER else "password")


def _words(output: bytes) -> str:
    """Return a helper's message for the log, unless it could contain an account."""
    text = " ".join(output[:_SHOWN].decode(errors="replace").split())
    return "" if "{" in text or not text.isprintable() else text
