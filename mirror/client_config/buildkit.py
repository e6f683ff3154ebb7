"""The file of buildkitd."""

from __future__ import annotations

from yarl import URL

from mirror.client_config.endpoint import (
    CA_FILE,
    HEAD,
    ClientEndpoint,
    Files,
    quoted,
    registry_url,
)
from mirror.settings import ConfigurationError, Settings

FOLDER = "/etc/buildkit"  # its file needs absolute paths


def files(endpoint: ClientEndpoint, settings: Settings) -> Files:
    """Return BuildKit's files: requests have `ns`, and a table per host says whether it has TLS.

    Raises ConfigurationError for `only`.
    """
    if endpoint.only:  # its resolver puts the registry behind all mirrors (buildkit, util/resolver)
        raise ConfigurationError(
            "--only: buildkitd always falls back to the registry; dockerd's own "
            "BuildKit (client-config docker --only) does not"
        )
    mirror = quoted(endpoint.authority)
    tables = []
    for name in settings.upstreams:
        plain = "  http = true\n" if registry_url(name, settings).startswith("http:") else ""
        tables.append(f"[registry.{quoted(name)}]\n  mirrors = [{mirror}]\n{plain}")
    if URL(endpoint.url).scheme == "http":
        tables.append(f"[registry.{mirror}]\n  http = true\n")
    elif endpoint.ca:
        tables.append(f'[registry.{mirror}]\n  ca = ["{FOLDER}/{CA_FILE}"]\n')
    return {"buildkitd.toml": "\n".join([HEAD, *tables])} | endpoint.trust(CA_FILE)
