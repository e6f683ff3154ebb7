"""The proxies that the environment names for all programs: HTTPS_PROXY and its kin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import SecretStr

from mirror.settings.values import ConfigurationError, parse_proxy


@dataclass(frozen=True, slots=True)
class EnvironmentProxies:
    """The proxies for http URLs and for https URLs, and the hosts to connect to directly."""

    http: SecretStr | None = None
    https: SecretStr | None = None
    direct: str = ""

    def of(self, scheme: str) -> SecretStr | None:
        """Return the proxy for URLs of a scheme."""
        return self.https if scheme == "https" else self.http


def proxies_from(environment: Mapping[str, str]) -> EnvironmentProxies:
    """Read HTTP_PROXY, HTTPS_PROXY and NO_PROXY, or the same in lower case, as Go does.

    Raises ConfigurationError, which names the variable but not its value, a possible password.
    """
    return EnvironmentProxies(
        _proxy(environment, "HTTP_PROXY"),
        _proxy(environment, "HTTPS_PROXY"),
        environment.get(_named(environment, "NO_PROXY"), ""),
    )


def _proxy(environment: Mapping[str, str], variable: str) -> SecretStr | None:
    name = _named(environment, variable)
    text = environment.get(name, "").strip()
    if not text:
        return None
    try:
        return parse_proxy(text if "://" in text else f"http://{text}")
    except ValueError as error:
        raise ConfigurationError(f"proxy ({name}): {error}") from None


def _named(environment: Mapping[str, str], variable: str) -> str:
    return variable if environment.get(variable) else variable.lower()
