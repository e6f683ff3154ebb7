"""The files of k3s and RKE2, which generate containerd's files from them."""

from __future__ import annotations

from mirror.client_config.endpoint import (
    CA_FILE,
    HEAD,
    ClientEndpoint,
    Files,
    quoted,
    registry_url,
)
from mirror.settings import Settings

FOLDER = "/etc/rancher/k3s"  # its file needs absolute paths
_CLOSED = "config.yaml.d/mirror-only.yaml"  # k3s reads all of this folder beside its file


def files(endpoint: ClientEndpoint, settings: Settings) -> Files:
    """Return the files of k3s and RKE2."""
    text = f"{HEAD}mirrors:\n{_mirrors(endpoint, settings)}"
    trusted = (
        f"configs:\n  {quoted(endpoint.authority)}:\n    tls:\n      ca_file: {FOLDER}/{CA_FILE}\n"
    )
    written = {"registries.yaml": text + (trusted if endpoint.ca else "")}
    if endpoint.only:
        written[_CLOSED] = f"{HEAD}disable-default-registry-endpoint: true\n"
    return written | endpoint.trust(CA_FILE)


def _mirrors(endpoint: ClientEndpoint, settings: Settings) -> str:
    """Return the endpoints of each registry.

    k3s uses https for a registry itself, except if it is also an endpoint (k3s,
    pkg/agent/containerd/config.go).
    """
    endpoints = {name: [endpoint.url] for name in settings.upstreams}
    if endpoint.only:
        endpoints["*"] = [endpoint.url]
    else:
        for name in settings.upstreams:
            registry = registry_url(name, settings)
            endpoints[name] += [registry] if registry.startswith("http:") else []
    return "".join(
        f"  {quoted(name)}:\n    endpoint:\n" + "".join(f"      - {quoted(url)}\n" for url in urls)
        for name, urls in endpoints.items()
    )
