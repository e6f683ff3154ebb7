"""Plain settings turned into links, access rules, secrets and budget terms."""

from __future__ import annotations

import os
from collections.abc import Mapping

from pydantic import SecretStr
from yarl import URL

from mirror.access.authorizer import AccessRules
from mirror.budget.account import BudgetPolicy
from mirror.budget.shares import Shares
from mirror.oci.patterns import Patterns
from mirror.settings import (
    ConfigurationError,
    Settings,
    Upstream,
)
from mirror.settings.environment_proxies import proxies_from
from mirror.settings.values import DIRECTLY
from mirror.upstream.auth.credentials import read_password
from mirror.upstream.connection import ConnectionSettings, ConnectionSettingsError, trust
from mirror.upstream.proxies import Proxies
from mirror.upstream.transport import Timeouts
from mirror.util.permissions import explain_unreadable
from mirror.util.rate_limit import BandwidthLimit


def link(upstream: Upstream, environment: Mapping[str, str] = os.environ) -> ConnectionSettings:
    """Return the link to an upstream; raises ConfigurationError if a file of it cannot be used.

    `environment` names the proxies where the upstream has none.
    """
    try:
        trusted = trust(upstream.ca_file)
        shown = trust(upstream.ca_file, upstream.client_cert, upstream.client_key)
    except ConnectionSettingsError as error:
        value = getattr(upstream, error.key)
        raise ConfigurationError(f"{error.key} is {str(value)!r}: {error}") from None
    return ConnectionSettings(
        trusted=trusted,
        shown=shown if upstream.client_cert else None,
        proxies=proxies(upstream, environment),
        max_connections=upstream.max_connections,
        pace=BandwidthLimit(max_rate=upstream.max_rate),
    )


def proxies(upstream: Upstream, environment: Mapping[str, str] = os.environ) -> Proxies:
    """Return the proxies of an upstream; raises ConfigurationError."""
    if upstream.proxy is not None:
        proxy = _proxy_url(upstream.proxy)
        return Proxies(proxy, proxy)
    named = proxies_from(environment)
    found = Proxies(_proxy_url(named.http), _proxy_url(named.https), named.direct)
    if upstream.client_cert and any(each.scheme == "https" for each in found.all):
        raise ConfigurationError(
            "client_cert would be shown to the environment's proxy, too: set proxy to "
            'http://… or "none"'
        )
    return found


def _proxy_url(proxy: SecretStr | None) -> URL | None:
    text = DIRECTLY if proxy is None else proxy.get_secret_value()
    return None if text == DIRECTLY else URL(text)


def timeouts(settings: Settings) -> Timeouts:
    """Return the time limits for every upstream."""
    return Timeouts(
        connect_timeout=settings.connect_timeout,
        silence_timeout=settings.silence_timeout,
        answer_timeout=settings.answer_timeout,
        resume_timeout=settings.resume_timeout,
    )


def rules(upstream: Upstream) -> AccessRules:
    """Return the access rules of an upstream."""
    return AccessRules(
        allow=Patterns(upstream.allow), deny=Patterns(upstream.deny), private=upstream.private
    )


def secret(upstream: Upstream) -> str:
    """Return the password for an upstream; raises ConfigurationError if its file has none."""
    if upstream.password_file is None:
        return upstream.password.get_secret_value()
    file = upstream.password_file
    try:
        return read_password(file)
    except OSError as error:
        raise ConfigurationError(
            f"password_file is '{file}': cannot be read: {explain_unreadable(error)}"
        ) from None
    except ValueError as error:
        raise ConfigurationError(f"password_file is '{file}': it {error}") from None


def budgets(settings: Settings, shares: Shares | None = None) -> dict[str, BudgetPolicy]:
    """Return the terms of each upstream's pull budget, with these `shares` if there are any."""
    shares = shares or Shares(settings.shares)
    return {
        name: BudgetPolicy(
            user=upstream.whose,
            pull_limit=upstream.pull_limit,
            pull_window=upstream.pull_window,
            reserve=upstream.reserve,
            reserved_for=Patterns(upstream.reserved_for),
            shares=shares,
            max_stale=settings.max_stale,
        )
        for name, upstream in settings.upstreams.items()
    }
