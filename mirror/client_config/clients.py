"""The clients that files are written for, and the files of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mirror.client_config import buildkit, containerd, docker, k3s, podman
from mirror.client_config.endpoint import ClientEndpoint, Files
from mirror.settings import ConfigurationError, Settings
from mirror.web.auth.host_names import HostNames

TRUST_REGISTRIES = frozenset({"docker", "containerd"})  # their files can name the CA of a registry
CLIENTS: Mapping[str, Callable[[ClientEndpoint, Settings], Files]] = {
    "docker": docker.files,
    "containerd": containerd.files,
    "podman": podman.files,
    "cri-o": podman.files,
    "buildah": podman.files,
    "skopeo": podman.files,
    "buildkit": buildkit.files,
    "k3s": k3s.files,
}


def files(client: str, endpoint: ClientEndpoint, settings: Settings) -> Files:
    """Return a client's files for the mirror at an endpoint, by its settings.

    `client` is one of CLIENTS; docs/clients.md says where each file goes. Raises
    ConfigurationError where a client cannot express the configuration, or would be refused.
    """
    if settings.host_names and not _is_known(endpoint, settings):
        raise ConfigurationError(
            f"the mirror answers no client that calls it {endpoint.authority}: add that name to "
            f"host_names, or set --url to a name from it: {', '.join(settings.host_names)}"
        )
    return CLIENTS[client](endpoint, settings)


def _is_known(endpoint: ClientEndpoint, settings: Settings) -> bool:
    names = HostNames({*settings.host_names, *settings.hosts()})
    return names.know(endpoint.authority.lower())
