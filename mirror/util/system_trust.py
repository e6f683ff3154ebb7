"""The system's CAs, read at the first connection that needs them rather than at the start.

aiohttp makes a TLS context as it is imported. Parsing the system's certificates for it takes a
seventh of the CPU of a start (measured).
"""

from __future__ import annotations

import contextlib
import os
import ssl
import sys
import threading
from collections.abc import Iterator
from typing import Any, Self

_make = ssl.create_default_context
_unread: list[SystemTrust] = []


class SystemTrust(ssl.SSLContext):
    """A context of a client, as `ssl.create_default_context` makes it, that has not read CAs yet.

    A connection of asyncio has it read them first. Threads may share it.
    """

    def __new__(cls) -> Self:
        """Make a context that trusts no CA yet."""
        made = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        if sys.version_info >= (3, 13):
            made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
        return made

    def __init__(self) -> None:
        self._is_read = False
        self._turn = threading.Lock()

    def read(self) -> None:
        """Read the CAs, unless they are read; the interpreter is free meanwhile."""
        with self._turn:
            if not self._is_read:
                self.load_default_certs()
                self._is_read = True

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Begin a connection of asyncio."""
        self.read()
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)


@contextlib.contextmanager
def read_at_first_use() -> Iterator[None]:
    """Let modules that are imported meanwhile make default contexts without reading CAs."""
    if not os.environ.get("SSLKEYLOGFILE"):  # which the default context of a debugger writes
        ssl.create_default_context = _default_context
    try:
        yield
    finally:
        ssl.create_default_context = _make


def read() -> None:
    """Read the CAs of all such contexts, on a thread: the event loop does not wait for them."""
    while _unread:
        _unread.pop().read()


def _default_context(*chosen: Any, **named: Any) -> ssl.SSLContext:  # noqa: ANN401 - of ssl
    if chosen or named:
        return _make(*chosen, **named)
    made = SystemTrust()
    _unread.append(made)
    return made
