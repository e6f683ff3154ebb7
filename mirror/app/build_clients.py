"""The parts for clients: their logins, the names that they may use, and their proxies."""

from __future__ import annotations

import socket

from mirror.oci.patterns import Patterns
from mirror.settings import ConfigurationError, Settings
from mirror.web.auth.authenticator import Authenticator, ConfiguredClient
from mirror.web.auth.browsers import Browsers
from mirror.web.auth.htpasswd import Htpasswd, HtpasswdError
from mirror.web.auth.request_rate import RequestRates
from mirror.web.connections.trusted_proxies import TrustedProxies
from mirror.web.router import Router


def build_authenticator(settings: Settings) -> Authenticator:
    """Return the clients that may log in, to be closed; raises ConfigurationError."""
    known = {
        name: ConfiguredClient(token=each.token.get_secret_value(), allow=Patterns(each.allow))
        for name, each in settings.clients.items()
    }
    return Authenticator(
        known=known,
        users=build_users(settings),
        rates=RequestRates(client_rate=settings.client_rate),
        anonymous=None if "**" in settings.anonymous else Patterns(settings.anonymous),
        challenge=settings.challenge,
        browsers=Browsers(own_names(settings), strict=is_strict(settings)),
    )


def build_users(settings: Settings) -> Htpasswd | None:
    """Return the users with passwords, if any are configured; raises ConfigurationError."""
    try:
        return Htpasswd(htpasswd=settings.htpasswd) if settings.htpasswd else None
    except HtpasswdError as error:
        raise ConfigurationError(f"htpasswd is '{settings.htpasswd}': {error}") from None


def console_names(settings: Settings) -> set[str]:
    """Return the names by which browsers may reach the page: the machine's own name among them."""
    host = socket.gethostname().lower()
    return {*settings.admin_hosts, *own_names(settings), host, f"{host.partition('.')[0]}.local"}


def build_metrics_browsers(settings: Settings) -> Browsers:
    """Return the browser check for monitoring: its programs use other names for the mirror."""
    return Browsers(own_names(settings), strict=False)


def own_names(settings: Settings) -> set[str]:
    """Return the names of the mirror."""
    return {*settings.host_names, *settings.hosts()}


def is_strict(settings: Settings) -> bool:
    """Whether all clients have to use these names."""
    return bool(settings.host_names)


def build_router(settings: Settings) -> Router:
    """Return the router, which finds the upstream that a request means."""
    return Router(
        settings.upstreams, default_upstream=settings.default_upstream, hosts=settings.hosts()
    )


def build_trusted_proxies(settings: Settings) -> TrustedProxies | None:
    """Return the trusted proxies, if there are any."""
    if not settings.trusted_proxies:
        return None
    return TrustedProxies(
        trusted_proxies=settings.trusted_proxies, proxy_protocol=settings.proxy_protocol
    )
