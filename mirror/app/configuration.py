"""The configuration as it is shown: each key with its value in force, and the value's place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from yarl import URL

from mirror.app.upstream_plans import proxies
from mirror.settings import ConfigurationError, Settings, display


def shown_rows(origins: display.Origins, settings: Settings) -> Iterator[display.Row]:
    """Yield a row for every key; raises ConfigurationError. It may read files."""
    return display.rows(origins, settings, _proxies(settings))


def _proxies(settings: Settings) -> Mapping[str, str]:
    """Return the environment's proxies that upstreams are reached through, without their logins.

    Raises ConfigurationError.
    """
    found = {}
    for name, upstream in settings.upstreams.items():
        try:
            proxy = proxies(upstream).of(URL(upstream.url))
        except ConfigurationError as error:
            raise ConfigurationError(f"upstreams.{name}.{error}") from None
        if proxy is not None and upstream.proxy is None:
            found[name] = str(proxy.with_user(None)).rstrip("/")
    return found
