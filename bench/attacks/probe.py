"""The probe: asks for one thing on a kept connection, a hundred times a second, and takes the time.

A process of its own: who attacks needs a CPU, too.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from urllib.parse import urlsplit

PATIENCE = 10.0  # seconds, which an answer that does not come counts as
_EVERY = 0.01


def probe(url: str, seconds: float) -> list[float]:
    """Ask for so long; returns how long each answer took, in seconds."""
    parts = urlsplit(url)
    question = (
        f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        "Accept: application/vnd.oci.image.manifest.v1+json\r\n\r\n"
    ).encode()
    where = str(parts.hostname), parts.port or 80
    took: list[float] = []
    end: socket.socket | None = None
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        try:
            end = end or socket.create_connection(where, PATIENCE)
            end.sendall(question)
            _read(end)
            took.append(time.perf_counter() - began)
        except OSError:
            took.append(PATIENCE)
            end = None
        time.sleep(max(0.0, began + _EVERY - time.perf_counter()))
    return took


def _read(end: socket.socket) -> None:
    """Read one answer; raises OSError where it is none of 200."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += _received(end)
    head, _, body = got.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise OSError(head[:40].decode("latin-1"))
    lines = head.lower().split(b"\r\n")
    [length] = [int(line[15:]) for line in lines if line.startswith(b"content-length:")]
    left = length - len(body)
    while left > 0:
        left -= len(_received(end))


def _received(end: socket.socket) -> bytes:
    data = end.recv(65536)
    if not data:
        raise ConnectionResetError("closed")
    return data


if __name__ == "__main__":
    sys.stdout.write(json.dumps(probe(sys.argv[1], float(sys.argv[2]))))
