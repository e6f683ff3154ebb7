"""Plans of upstreams: how each is reached and logged in to, as the settings and files say."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from pydantic import SecretStr
from yarl import URL

from mirror.access.policy import AccessRules
from mirror.oci.names import HUB
from mirror.oci.patterns import Patterns
from mirror.settings import ConfigurationError, Settings, Upstream
from mirror.settings.environment_proxies import proxies_from
from mirror.settings.values import DIRECTLY
from mirror.upstream.auth.credentials import Credentials, read_password
from mirror.upstream.auth.factory import ExtraMissing, LoginSettings, origin
from mirror.upstream.auth.origin import Origin
from mirror.upstream.connection import ConnectionSettings, ConnectionSettingsError, trust
from mirror.upstream.proxies import Proxies
from mirror.upstream.transport import Timeouts
from mirror.util.permissions import explain_unreadable
from mirror.util.rate_limit import BandwidthLimit

_log = logging.getLogger(__name__)

# Keys that the registry's client does not use: a change keeps connections and tokens.
_ASIDE = frozenset(
    {"hosts", "allow", "deny", "private", "pull_limit", "pull_window", "reserve", "reserved_for"}
)
_FILES = ("ca_file", "client_cert", "client_key", "password_file", "docker_config")


@dataclass(frozen=True, slots=True)
class UpstreamPlan:
    """The way to ask one upstream. Plans that are `alike` in all settings and files are equal."""

    origin: Origin
    connection: ConnectionSettings
    timeouts: Timeouts
    alike: tuple[object, ...]


class UpstreamPlans:
    """The plans of all upstreams; unchanged ones are taken over from `now`.

    Raises ConfigurationError. It reads files: preferably on a thread.
    """

    def __init__(self, settings: Settings, now: Mapping[str, UpstreamPlan] | None = None) -> None:
        timeouts, known = timeouts_of(settings), now or {}
        self.all = {
            name: _plan(name, each, timeouts, known.get(name))
            for name, each in settings.upstreams.items()
        }
        self.rules = {name: rules_of(each) for name, each in settings.upstreams.items()}

    def __repr__(self) -> str:
        return f"<UpstreamPlans: {len(self.all)} upstreams>"

    @property
    def accounts(self) -> frozenset[str]:
        """The names of upstreams that the mirror logs in to."""
        return frozenset(name for name, each in self.all.items() if each.origin.logs_in)


def _plan(
    name: str, upstream: Upstream, timeouts: Timeouts, known: UpstreamPlan | None
) -> UpstreamPlan:
    """Return an upstream's plan: the known one if settings and files are unchanged."""
    keys = upstream.model_dump(exclude=set(_ASIDE))
    files = (_print(getattr(upstream, key)) for key in _FILES)
    alike = (keys, _counts(name, upstream), timeouts, *files)
    if known is not None and known.alike == alike:
        return known
    plan = UpstreamPlan(origin_of(name, upstream), connection_of(name, upstream), timeouts, alike)
    _tell_proxy(plan, upstream)
    return plan


def _tell_proxy(plan: UpstreamPlan, upstream: Upstream) -> None:
    """Log a proxy that comes from the environment, not from the configuration."""
    proxy = plan.connection.proxies.of(plan.origin.url)
    if proxy is not None and upstream.proxy is None:
        bare = proxy.with_user(None)
        _log.info("%s is reached through %s, the environment's proxy", plan.origin.name, bare)


def _print(file: Path | None) -> bytes | None:
    """Return a hash of a file; None if it cannot be read, which is reported elsewhere."""
    try:
        return None if file is None else sha256(file.read_bytes()).digest()
    except OSError:
        return None


def _counts(name: str, upstream: Upstream) -> bool:
    return name == HUB or upstream.pull_limit is not None


def origin_of(name: str, upstream: Upstream) -> Origin:
    """Return an upstream's origin; raises ConfigurationError."""
    try:
        account = Credentials(upstream.username, password_of(upstream))
    except ConfigurationError as error:
        raise ConfigurationError(f"upstreams.{name}.{error}") from None
    configured = LoginSettings(
        auth=upstream.auth,
        account=account,
        password_file=upstream.password_file,
        docker_config=upstream.docker_config,
        realms=upstream.realms,
        account_name=upstream.account_name,
    )
    try:
        found = origin(name, URL(upstream.url), configured)
    except (ExtraMissing, ValueError) as error:
        raise ConfigurationError(f"upstreams.{name}: {error}") from None
    return replace(
        found,
        logs_in=found.logs_in or upstream.client_cert is not None,
        counts_pulls=_counts(name, upstream),
        repository_prefix=upstream.repository_prefix,
    )


def connection_of(name: str, upstream: Upstream) -> ConnectionSettings:
    """Return an upstream's connection settings; raises ConfigurationError."""
    try:
        return connection_settings(upstream)
    except ConfigurationError as error:
        raise ConfigurationError(f"upstreams.{name}.{error}") from None


def password_of(upstream: Upstream) -> str:
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


def connection_settings(
    upstream: Upstream, environment: Mapping[str, str] = os.environ
) -> ConnectionSettings:
    """Return the settings of connections; raises ConfigurationError if a file cannot be used.

    `environment` names the proxies where the upstream has none.
    """
    try:
        trusted = trust(ca_file=upstream.ca_file)
        shown = trust(
            ca_file=upstream.ca_file,
            client_cert=upstream.client_cert,
            client_key=upstream.client_key,
        )
    except ConnectionSettingsError as error:
        value = getattr(upstream, error.key)
        raise ConfigurationError(f"{error.key} is {str(value)!r}: {error}") from None
    return ConnectionSettings(
        trusted=trusted,
        shown=shown if upstream.client_cert else None,
        proxies=proxies(upstream, environment),
        max_connections=upstream.max_connections,
        bandwidth_limit=BandwidthLimit(max_rate=upstream.max_rate),
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


def timeouts_of(settings: Settings) -> Timeouts:
    """Return the time limits for every upstream."""
    return Timeouts(
        connect_timeout=settings.connect_timeout,
        silence_timeout=settings.silence_timeout,
        answer_timeout=settings.answer_timeout,
        resume_timeout=settings.resume_timeout,
    )


def rules_of(upstream: Upstream) -> AccessRules:
    """Return the access rules of an upstream."""
    return AccessRules(
        allow=Patterns(upstream.allow), deny=Patterns(upstream.deny), private=upstream.private
    )
