"""The command's end of a transfer: it reads records, and supplies content.

Both ends go in step: the mirror names content (`Wanted`), and for each digest in turn the
command sends the content in pieces (`Content`, `Piece`), or that there is none (`Absent`).
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TypeAlias

from mirror.admin.json_lines import read_record, record_line
from mirror.admin.messages import Piece, Record, Wanted

# Supplies the wanted content, as records.
Supply: TypeAlias = Callable[[Wanted], Iterable[Record]]

_READ = 256 * 1024  # bytes


def records(read: Callable[[int], bytes]) -> Iterator[Record]:
    """Read records to the end, with the bytes of pieces; `read` returns b"" at the end.

    A record that is cut off is left out: its answer was broken off, which the last record shows.
    """
    rest = bytearray()
    while True:
        end = rest.find(b"\n")
        if end < 0:
            if not (data := read(_READ)):
                return
            rest += data
            continue
        record = read_record(bytes(rest[:end]))
        del rest[: end + 1]
        if isinstance(record, Piece):
            while len(rest) < record.length:
                if not (data := read(_READ)):
                    return
                rest += data
            record = replace(record, data=bytes(rest[: record.length]))
            del rest[: record.length]
        yield record


class Upload:
    """The body of a request, in chunks (RFC 9112, 7.1), sent while the answer is read."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, data: bytes) -> None:
        """Send a chunk; raises OSError."""
        if data:
            self._connection.sendall(b"%x\r\n%b\r\n" % (len(data), data))

    def answer(self, supplied: Iterable[Record]) -> None:
        """Send records, until the mirror answers before it has all: it has refused one.

        A connection that the mirror closed is no error: its answer can still be read.
        """
        with suppress(BrokenPipeError, ConnectionResetError):
            for record in supplied:
                if self._is_answered():
                    return
                self.send(b"".join(record_line(record)))

    def _is_answered(self) -> bool:
        """Whether more of the answer has come than the end of its last chunk, a line break."""
        if not select.select([self._connection], [], [], 0)[0]:
            return False
        come = self._connection.recv(8, socket.MSG_PEEK)
        return not come or bool(come.strip(b"\r\n"))

    def end(self) -> None:
        """End the body, if the mirror still reads it."""
        with suppress(OSError):
            self._connection.sendall(b"0\r\n\r\n")
