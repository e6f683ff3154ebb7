"""The client: HTTP/1.1 on a blocking socket, so cheap that the servers have the cores."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

TIMEOUT = 60.0  # seconds without a byte
AGENT = "mirror-bench/1"
_BUFFER = 64 * 1024  # bytes: it stays in the CPU's cache, which is what costs the least
_LONGEST_HEAD = 64 * 1024


class Refused(Exception):
    """A server answered what was not asked for, or broke off."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The head of an answer; `length` is what its body has, in bytes."""

    status: int
    headers: Mapping[str, str]
    length: int


@dataclass(frozen=True, slots=True)
class Drained:
    """A body that was read and thrown away; `first_at` on the clock of `time.perf_counter`."""

    size: int
    first_at: float


class Connection:
    """One connection. A body has to be read or drained before the next question."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host = parts.netloc
        self._socket = socket.create_connection((parts.hostname, parts.port or 80), TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if parts.scheme == "https":
            self._socket = _trusting().wrap_socket(self._socket)
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        """Send a question and read the head of the answer; raises Refused, OSError."""
        fields = {"Host": self._host, "User-Agent": AGENT, **(headers or {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._socket.sendall(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode())
        return self._read_head(method)

    def read(self, reply: Reply) -> bytes:
        """Return the body; raises Refused, OSError."""
        body = self._rest
        while len(body) < reply.length:
            body += self._view[: self._receive(reply.length - len(body))]
        return body

    def drain(self, reply: Reply) -> Drained:
        """Read the body and throw it away; raises Refused, OSError."""
        left = reply.length - len(self._rest)
        if left and not self._rest:
            left -= self._receive(left)
        first_at = time.perf_counter()
        while left:
            left -= self._receive(left)
        return Drained(reply.length, first_at)

    def _read_head(self, method: str) -> Reply:
        got = b""
        while (end := got.find(b"\r\n\r\n")) < 0:
            if len(got) > _LONGEST_HEAD:
                raise Refused("the head of an answer does not end")
            got += self._view[: self._receive(_LONGEST_HEAD)]
        status, *lines = got[:end].decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        self._rest = got[end + 4 :]
        length = 0 if method == "HEAD" else int(headers["content-length"])
        return Reply(int(status.split()[1]), headers, length)

    def _receive(self, most: int) -> int:
        count = self._socket.recv_into(self._view, min(most, _BUFFER))
        if not count:
            raise Refused("a server closed the connection before the end of its answer")
        return count


def _trusting() -> ssl.SSLContext:
    """Trust whoever answers on the loopback."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
