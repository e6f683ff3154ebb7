"""The parts that settings describe: each made as configured, or refused in plain words."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing, contextmanager
from functools import partial
from typing import Protocol, TypeVar

from mirror.access.authorizer import Authorizer
from mirror.access.publicity import Publicity
from mirror.app.upstreams import Upstreams
from mirror.oci.names import Repository
from mirror.oci.patterns import Patterns
from mirror.settings import Address, ConfigurationError, Settings
from mirror.storage.catalog import Catalog
from mirror.upstream.publicity_check import ProbedContent
from mirror.web.auth.authenticator import Authenticator, Known
from mirror.web.auth.browsers import Browsers
from mirror.web.auth.htpasswd import Htpasswd, HtpasswdError
from mirror.web.auth.request_rate import RequestRates
from mirror.web.connections.certificate import Certificate, Pem, TlsError
from mirror.web.connections.pool import ConnectionPool, bound, listen
from mirror.web.connections.trusted_proxies import TrustedProxies
from mirror.web.router import Router


class Closable(Protocol):
    """A part that has to be closed."""

    async def close(self) -> None:
        """Close it."""


P = TypeVar("P", bound=Closable)


def listeners(
    stack: AsyncExitStack, settings: Settings
) -> tuple[socket.socket, socket.socket | None]:
    """Listen for clients, and for monitoring where it has a separate address.

    Raises ConfigurationError if an address is not available.
    """
    timeout, watched = settings.client_timeout, settings.listen_metrics
    listener = stack.enter_context(closing(_listener("listen", settings.listen, timeout)))
    if watched is None:
        return listener, None
    return listener, stack.enter_context(closing(_listener("listen_metrics", watched, timeout)))


def addresses(settings: Settings) -> Iterator[tuple[str, Address]]:
    """Yield the addresses to listen on, with their keys."""
    yield "listen", settings.listen
    if settings.listen_metrics is not None:
        yield "listen_metrics", settings.listen_metrics


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


def certificate(settings: Settings) -> Certificate | None:
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


def access(
    settings: Settings, upstreams: Upstreams, publicity: Publicity, catalog: Catalog
) -> Authorizer:
    """Return the access check, with the inquiries of every upstream."""
    kept = partial(_kept, catalog)
    return Authorizer(
        upstreams.rules,
        upstreams.inquiries,
        publicity,
        stale_after=settings.stale_after,
        kept=kept,
    )


def _kept(
    catalog: Catalog, repository: Repository, wanted: ProbedContent | None
) -> ProbedContent | None:
    """Return stored content of a repository, other than `wanted`."""
    digest = catalog.any_of(repository, None if wanted is None else wanted.reference)
    entry = None if digest is None else catalog.get(digest)
    if digest is None or entry is None:
        return None
    return ProbedContent("blob" if entry.media_type is None else "manifest", digest)


def users(settings: Settings) -> Htpasswd | None:
    """Return the users with passwords, if any are configured; raises ConfigurationError."""
    try:
        return Htpasswd(htpasswd=settings.htpasswd) if settings.htpasswd else None
    except HtpasswdError as error:
        raise ConfigurationError(f"htpasswd is '{settings.htpasswd}': {error}") from None


def clients(settings: Settings) -> Authenticator:
    """Return the clients that may log in; raises ConfigurationError."""
    known = {
        name: Known(each.token.get_secret_value(), Patterns(each.allow))
        for name, each in settings.clients.items()
    }
    return Authenticator(
        known,
        users(settings),
        RequestRates(client_rate=settings.client_rate),
        anonymous=None if "**" in settings.anonymous else Patterns(settings.anonymous),
        challenge=settings.challenge,
        browsers=_browsers(settings, strict=strict(settings)),
    )


def connections(settings: Settings, bearable: int) -> ConnectionPool:
    """Return the bounds on connections, of which there are at most `bearable` in all."""
    return ConnectionPool(
        max_connections=min(settings.max_connections, bearable),
        client_connections=settings.client_connections,
        trusted_proxies=trusted_proxies(settings),
    )


def trusted_proxies(settings: Settings) -> TrustedProxies | None:
    """Return the trusted proxies, if there are any."""
    if not settings.trusted_proxies:
        return None
    return TrustedProxies(settings.trusted_proxies, proxy_protocol=settings.proxy_protocol)


def watchers_browsers(settings: Settings) -> Browsers:
    """Return the browser check for monitoring: its programs use other names for the mirror."""
    return _browsers(settings, strict=False)


def _browsers(settings: Settings, *, strict: bool) -> Browsers:
    return Browsers(names(settings), strict=strict)


def names(settings: Settings) -> set[str]:
    """Return the names of the mirror."""
    return {*settings.host_names, *settings.hosts()}


def strict(settings: Settings) -> bool:
    """Whether all clients have to use these names."""
    return bool(settings.host_names)


def router(settings: Settings) -> Router:
    """Return the router, which finds the upstream that a request means."""
    return Router(
        settings.upstreams, default_upstream=settings.default_upstream, hosts=settings.hosts()
    )


def closed(stack: AsyncExitStack, part: P) -> P:
    """Close a part at the end; returns it."""
    stack.push_async_callback(part.close)
    return part
