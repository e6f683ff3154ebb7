"""The files of dockerd: `daemon.json`, and a folder for each registry in `certs.d`."""

from __future__ import annotations

import json

from mirror.client_config.containerd import registry_folder
from mirror.client_config.endpoint import ClientEndpoint, Files, authority
from mirror.oci.names import HUB
from mirror.settings import ConfigurationError, Settings

_CA_FILE = "ca.crt"  # in the folder of the host that has the certificate


def files(endpoint: ClientEndpoint, settings: Settings) -> Files:
    """Return dockerd's files, which differ between its image stores; raises ConfigurationError.

    The classic store mirrors Docker Hub only, sends no registry name, and cannot be restricted to
    the mirror. The containerd image store, and BuildKit with either, read containerd's files (from
    28.5 on). Without `only` there is no file for all other registries: `insecure-registries` has no
    effect on a registry that has a file (moby, daemon/hosts.go).
    """
    written = {} if endpoint.only else _classic(endpoint, settings)
    names = [*settings.upstreams, *(["_default"] if endpoint.only else [])]
    ca_file = f"{endpoint.authority}/{_CA_FILE}"
    for name in names:
        written |= registry_folder(f"certs.d/{name}", endpoint, name, settings, ca_file)
    return written | endpoint.trust(f"certs.d/{ca_file}")


def _classic(endpoint: ClientEndpoint, settings: Settings) -> Files:
    """Return the files of dockerd's classic store; before 25, it rejects a mirror with a path."""
    url = endpoint.url_of(HUB, settings)
    if url is None:
        raise ConfigurationError(
            f"{endpoint.url} is not {HUB} for clients that name no upstream, such as dockerd: set "
            f'default_upstream = "{HUB}", or a host of the mirror in `hosts` of upstreams."{HUB}"'
        )
    written = {"daemon.json": json.dumps({"registry-mirrors": [url]}) + "\n"}
    return written | endpoint.trust(f"certs.d/{authority(url)}/{_CA_FILE}")
