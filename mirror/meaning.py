"""What the settings mean: links, rules, secrets and budget terms, built from their plain values."""

from __future__ import annotations

from yarl import URL

from mirror.cache.access import Rules
from mirror.cache.account import Terms
from mirror.cache.shares import Shares
from mirror.oci.patterns import Patterns
from mirror.settings import ConfigurationError, Settings, Upstream
from mirror.upstream.auth.credentials import read_password
from mirror.upstream.link import Link, LinkError, trust
from mirror.upstream.pace import Pace


def link(upstream: Upstream) -> Link:
    """Return how an upstream is reached; raises ConfigurationError where a file cannot be used."""
    try:
        trusted = trust(upstream.ca_file)
        shown = trust(upstream.ca_file, upstream.client_cert, upstream.client_key)
    except LinkError as error:
        value = getattr(upstream, error.key)
        raise ConfigurationError(f"{error.key} is {str(value)!r}: {error}") from None
    proxy = URL(upstream.proxy.get_secret_value()) if upstream.proxy else None
    return Link(
        trusted,
        shown if upstream.client_cert else None,
        proxy,
        upstream.max_connections,
        Pace(upstream.max_rate),
    )


def rules(upstream: Upstream) -> Rules:
    """Return who may read what of an upstream."""
    return Rules(Patterns(upstream.allow), Patterns(upstream.deny), upstream.private)


def secret(upstream: Upstream) -> str:
    """Return the password for an upstream; raises ConfigurationError where its file has none."""
    if upstream.password_file is None:
        return upstream.password.get_secret_value()
    try:
        return read_password(upstream.password_file)
    except OSError as error:
        raise ConfigurationError(
            f"password_file {upstream.password_file} cannot be read: {error.strerror}"
        ) from None
    except ValueError as error:
        raise ConfigurationError(f"password_file {upstream.password_file} {error}") from None


def budgets(settings: Settings, shares: Shares | None = None) -> dict[str, Terms]:
    """Return what is said of each upstream's pull budget, with these `shares` if there are any."""
    shares = shares or Shares(settings.shares)
    return {
        name: Terms(
            upstream.whose,
            upstream.pull_limit,
            upstream.pull_window,
            upstream.reserve,
            Patterns(upstream.reserved_for),
            shares,
            settings.max_stale,
        )
        for name, upstream in settings.upstreams.items()
    }
