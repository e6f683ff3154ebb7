"""The health of the running mirror, by its control socket: independent of addresses and TLS."""

from __future__ import annotations

import socket
from contextlib import closing
from http.client import HTTPException

from mirror.admin.socket_path import SOCKET, Connection, short_path
from mirror.settings import Settings
from mirror.util.command_error import CommandError

_PATIENCE = 4.0  # seconds for each wait; a Docker health check has 30, the image's has 5
_ANY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


class Unhealthy(CommandError):
    """The mirror does not run, does not answer, or is not ready; the message says which."""


def check(settings: Settings, *, ready: bool) -> str:
    """Ask the daemon whether it runs, or is `ready`; returns its answer. Raises Unhealthy.

    During its start, or if the disk was full then, a daemon has no control socket. It runs if it
    accepts connections at the address of clients (not more: TLS and logins are for clients), but it
    is not ready.
    """
    folder = settings.data_dir.absolute()
    try:
        with short_path(folder) as path, closing(Connection(path, _PATIENCE)) as connection:
            connection.request("GET", "/readyz" if ready else "/healthz")
            response = connection.getresponse()
            answer = response.read(4096).decode("utf-8", "replace").strip()
    except (FileNotFoundError, ConnectionRefusedError):
        return _without_socket(settings, ready=ready)
    except (OSError, HTTPException) as error:
        raise Unhealthy(f"the mirror does not answer on {folder / SOCKET}: {error}") from None
    if response.status != 200:
        raise Unhealthy(f"the mirror is not ready: {answer}")
    return answer


def _without_socket(settings: Settings, *, ready: bool) -> str:
    folder = settings.data_dir.absolute()
    host, port = settings.listen
    address = (_ANY.get(host, host), port)
    try:
        socket.create_connection(address, _PATIENCE).close()
    except OSError as error:
        where = f"in {folder} or at {settings.listen}"
        raise Unhealthy(f"no mirror runs {where}: {error.strerror or error}") from None
    if ready:
        raise Unhealthy(f"the mirror is not ready: it takes no orders in {folder}")
    return "ok"
