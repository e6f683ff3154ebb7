"""The client of the daemon: sends it an order, or has the order carried out without it.

A command that finds a daemon does not import the daemon's parts or aiohttp: that would double
its time.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from importlib import import_module
from pathlib import Path

from mirror.admin.json_lines import order_line
from mirror.admin.messages import Live, OrderError, Record, Refused, Unavailable, Wanted, Work
from mirror.admin.socket_path import SOCKET, Connection, short_path
from mirror.admin.transfer import Supply, Upload, records
from mirror.settings import Settings

_CONNECT = 10.0  # seconds
BROKE_OFF = "the running mirror broke off its answer: it was stopped, or failed"


def run(
    settings: Settings, order: Work, supply: Supply | None = None
) -> Generator[Record, None, None]:
    """Carry out an order; raises OrderError, or StoreError for the data folder.

    `supply` has the content that an order such as `import` asks for.
    """
    folder = settings.data_dir.absolute()
    _check(folder)
    try:
        yield from map(_good, _by_daemon(folder, order, supply))
    except _NoDaemon:
        if isinstance(order, Live):
            raise _nobody(folder) from None
        alone = import_module("mirror.app.offline")
        yield from map(_good, alone.carry_out(settings, folder, order, supply))


def ask(folder: Path, order: Work) -> Generator[Record, None, None]:
    """Have the daemon of a data folder carry out an order; raises OrderError."""
    _check(folder)
    try:
        yield from map(_good, _by_daemon(folder, order))
    except _NoDaemon:
        raise _nobody(folder) from None


class _NoDaemon(Exception):
    """No daemon listens."""


def _nobody(folder: Path) -> Unavailable:
    """Return the fault of an order for which no mirror runs."""
    return Unavailable(
        f"no mirror takes orders on {folder / SOCKET}: none runs there, or it is starting or "
        "stopping; `mirror serve` starts one, --data-dir names the data folder of another"
    )


def _check(folder: Path) -> None:
    """Refuse a folder that no mirror made: a mistyped one must not become a data folder."""
    try:
        made = (folder / "blobs").is_dir()
    except OSError as error:
        raise OrderError(f"cannot read {folder}: {error.strerror}") from None
    if not made:
        raise OrderError(f"no mirror keeps its data in {folder}")


def _good(record: Record) -> Record:
    if isinstance(record, Refused):
        raise OrderError(record.reason)
    return record


def _by_daemon(folder: Path, order: Work, supply: Supply | None = None) -> Iterator[Record]:
    """Send the order to the daemon; raises _NoDaemon if none listens, OrderError on failure."""
    with short_path(folder) as path, closing(Connection(path, _CONNECT)) as connection:
        try:
            connection.connect()
            connection.sock.settimeout(None)
        except (FileNotFoundError, ConnectionRefusedError):
            raise _NoDaemon from None
        except OSError as error:
            why = error.strerror or "it does not answer"
            raise OrderError(f"cannot talk to the mirror on {folder / SOCKET}: {why}") from None
        try:
            if supply is not None:
                yield from _supplied(connection, order, supply)
                return
            connection.request("POST", "/orders", order_line(order))
            yield from _answer(connection)
        except (HTTPException, OSError):
            raise OrderError(BROKE_OFF) from None


def _answer(connection: HTTPConnection) -> Iterator[Record]:
    response = connection.getresponse()
    if response.status != 200:
        raise OrderError(f"the running mirror answers {response.status}: restart it")
    return records(response.read1)


def _supplied(connection: HTTPConnection, order: Work, supply: Supply) -> Iterator[Record]:
    """Send the order, and then the wanted content, in the same request."""
    connection.putrequest("POST", "/orders")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    upload = Upload(connection.sock)
    upload.send(order_line(order) + b"\n")
    for record in _answer(connection):
        if isinstance(record, Wanted):
            upload.answer(supply(record))
        else:
            yield record
    upload.end()
