"""The doctor's checks of the running mirror: its version, its addresses, and its concerns."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import mirror
from mirror.admin import client
from mirror.admin.messages import Finding, OrderError, Status, StatusOrder
from mirror.admin.socket_path import SOCKET
from mirror.app.doctor.finding import fail, ok, warn
from mirror.app.doctor.listening import listening
from mirror.app.listeners import addresses
from mirror.settings import Settings
from mirror.util.units import duration

_PATIENCE = 3.0  # seconds
_ANY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
ADDRESSES = frozenset({"listen", "listen_metrics", "admin_listen"})  # keys
_CHECKED_HERE = frozenset({"certificate"})  # concerns that a check of the machine covers


def status_of(folder: Path) -> Status | OrderError | None:
    """Return the running mirror's status, why it has none, or None if none runs."""
    if not (folder / SOCKET).is_socket():
        return None
    try:
        with closing(client.ask(folder, StatusOrder())) as records:
            found = [record for record in records if isinstance(record, Status)]
    except OrderError as error:
        return error
    return found[-1] if found else OrderError("it does not answer with its status")


def findings(settings: Settings, status: Status | OrderError | None) -> Iterator[Finding]:
    """Yield the findings about the mirror that runs on the data folder, if one does."""
    folder = settings.data_dir.absolute()
    if status is None:
        words = f"none runs on {folder}, or it is starting or stopping"
        yield warn("running mirror", words, "`mirror serve` starts it")
    elif isinstance(status, OrderError):
        yield fail("running mirror", str(status), "restart it, and look at its log")
    else:
        yield _version(status)
        for concern in status.concerns:
            if concern.key not in _CHECKED_HERE:
                about = f"concern: {concern.key}"
                weigh = fail if concern.severity == "error" else warn
                yield weigh(about, concern.what.rstrip("."), concern.advice.rstrip("."))
    for key, address in addresses(settings):
        yield from _listener(key, address.host, address.port, isinstance(status, Status))


def _version(status: Status) -> Finding:
    words = f"version {status.version}, for {duration(status.uptime)}"
    if status.version != mirror.__version__:
        what = f"{words}; this command has version {mirror.__version__}"
        return warn("running mirror", what, "restart the mirror, so that it runs the new version")
    return ok("running mirror", words)


def _listener(key: str, host: str, port: int, runs: bool) -> Iterator[Finding]:
    if not port:
        return
    where = f"{host or '*'}:{port}"
    try:
        socket.create_connection((_ANY.get(host, host), port), _PATIENCE).close()
    except OSError as error:
        if runs:
            words = f"no connection to {where}: {error.strerror or error}"
            yield fail(key, words, "look for a firewall, or a changed configuration")
        else:
            yield ok(key, f"{where} is free")
        return
    who = listening(port)
    if runs:
        yield ok(key, f"{where} accepts connections{f', of {who}' if who else ''}")
    else:
        taken = f"{where} is taken by {who or 'another program'}, and no mirror runs here"
        yield fail(key, taken, f"stop that program, or choose another address for {key}")
