"""The listeners: their addresses and certificate, or why these cannot be used."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing, contextmanager
from typing import NamedTuple

from mirror.settings import Address, ConfigurationError, Settings
from mirror.web.connections.certificate import Certificate, Pem, TlsError
from mirror.web.connections.client_connections import bound, listen


class Listeners(NamedTuple):
    """The listening sockets: for clients, and for the pages that have a separate address."""

    clients: socket.socket
    metrics: socket.socket | None
    admin: socket.socket | None


def open_listeners(stack: AsyncExitStack, settings: Settings) -> Listeners:
    """Listen until the end of the stack; raises ConfigurationError if an address is taken."""
    opened = {
        key: stack.enter_context(
            closing(_listener(key, address, client_timeout=settings.client_timeout))
        )
        for key, address in addresses(settings)
    }
    return Listeners(opened["listen"], opened.get("listen_metrics"), opened.get("admin_listen"))


def addresses(settings: Settings) -> Iterator[tuple[str, Address]]:
    """Yield the addresses to listen on, with their keys."""
    yield "listen", settings.listen
    if settings.listen_metrics is not None:
        yield "listen_metrics", settings.listen_metrics
    if settings.admin_listen is not None:
        yield "admin_listen", settings.admin_listen


def try_address(key: str, address: Address) -> None:
    """Check that an address is available; raises ConfigurationError.

    The address is bound without listening, so that a daemon that starts can still take it.
    """
    with _named(key, address):
        bound(*address).close()


def _listener(key: str, address: Address, client_timeout: float) -> socket.socket:
    with _named(key, address):
        return listen(*address, client_timeout=client_timeout)


@contextmanager
def _named(key: str, address: Address) -> Iterator[None]:
    """Raise ConfigurationError, which names the key, if an address is not available."""
    try:
        yield
    except (OSError, UnicodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "no name of a host"
        reason = f"{cause}; choose another address or port"
        raise ConfigurationError(f"{key} is '{address}': {reason}") from None


def build_certificate(settings: Settings) -> Certificate | None:
    """Return the certificate for TLS, if there is one; raises ConfigurationError."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    try:
        return Certificate(
            Pem(tls_cert=settings.tls_cert, tls_key=settings.tls_key, client_ca=settings.client_ca)
        )
    except TlsError as error:
        value = getattr(settings, error.key)
        raise ConfigurationError(f"{error.key} is {str(value)!r}: {error}") from None
