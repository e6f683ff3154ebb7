"""What a client has to be told of this mirror: its own configuration files, ready to use."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TypeAlias

from yarl import URL

from mirror.oci.names import HUB
from mirror.settings import HUB_URL, Settings
from mirror.web.route import Router, Target

Files: TypeAlias = dict[str, str]  # contents, by path in the client's own folder

_HEAD = "# Written by `mirror client-config`.\n"


def files(client: str, url: str, settings: Settings) -> Files:
    """Return a client's files for the mirror at `url` (scheme, host and port), as it is set.

    `client` is one of CLIENTS. Where each kind of file lies is in docs/clients.md.
    """
    return CLIENTS[client](url, settings)


def _docker(url: str, settings: Settings) -> Files:
    """Tell dockerd, which has mirrors for Docker Hub only and does not tell them so."""
    address = _address(url, HUB, settings)
    return {"daemon.json": json.dumps({"registry-mirrors": [address]}) + "\n"}


def _containerd(url: str, settings: Settings) -> Files:
    """Tell containerd, which says what it wants by `ns`: a folder per registry, one for others."""
    host = f'[host.{_quoted(url)}]\n  capabilities = ["pull", "resolve"]\n'
    servers = {
        f"{name}/hosts.toml": f"{_HEAD}server = {_quoted(_itself(name, settings))}\n\n{host}"
        for name in settings.upstreams
    }
    return servers | {"_default/hosts.toml": f"{_HEAD}{host}"}


def _podman(url: str, settings: Settings) -> Files:
    """Tell containers/image, which asks for what stands in the mirror's location."""
    tables = [_podman_registry(url, name, settings) for name in settings.upstreams]
    return {"registries.conf": "\n".join([_HEAD, *tables])}


def _podman_registry(url: str, name: str, settings: Settings) -> str:
    place = f"{_authority(url)}/{name}"
    if ":" in name:  # the path of an image's name cannot hold it
        address = _address(url, name, settings)
        if URL(address).path != "/":
            return f"# {name}: wants a host of the mirror's that means it (hosts)\n"
        place = _authority(address)
    return (
        f"[[registry]]\nprefix = {_quoted(name)}\nlocation = {_quoted(name)}\n"
        f"{_insecure(_itself(name, settings))}\n[[registry.mirror]]\n"
        f"location = {_quoted(place)}\n{_insecure(url)}"
    )


def _insecure(url: str) -> str:
    return "insecure = true\n" if url.startswith("http:") else ""


def _buildkit(url: str, settings: Settings) -> Files:
    """Tell BuildKit, which says what it wants by `ns`, and by a table whether it takes TLS."""
    mirror = _quoted(_authority(url))
    tables = []
    for name in settings.upstreams:
        plain = "  http = true\n" if _itself(name, settings).startswith("http:") else ""
        tables.append(f"[registry.{_quoted(name)}]\n  mirrors = [{mirror}]\n{plain}")
    if URL(url).scheme == "http":
        tables.append(f"[registry.{mirror}]\n  http = true\n")
    return {"buildkitd.toml": "\n".join([_HEAD, *tables])}


def _k3s(url: str, settings: Settings) -> Files:
    """Tell k3s and RKE2, which make their containerd's files of it."""
    mirrors = "".join(
        f"  {_quoted(name)}:\n    endpoint:\n      - {_quoted(url)}\n"
        for name in settings.upstreams
    )
    return {"registries.yaml": f"{_HEAD}mirrors:\n{mirrors}"}


CLIENTS: Mapping[str, Callable[[str, Settings], Files]] = {
    "docker": _docker,
    "containerd": _containerd,
    "podman": _podman,
    "cri-o": _podman,
    "buildah": _podman,
    "skopeo": _podman,
    "buildkit": _buildkit,
    "k3s": _k3s,
}


def _address(url: str, name: str, settings: Settings) -> str:
    """Return the URL at which the mirror is this upstream, for who does not say which it wants."""
    hosts = settings.hosts()
    here = URL(url)
    router = Router(settings.upstreams, settings.default_upstream, hosts)
    route = router.read("/v2/a/b/tags/list", here.authority)
    if isinstance(route, Target) and route.repository.upstream == name:
        return url
    for host in settings.upstreams[name].hosts:
        port = here.explicit_port if URL(f"//{host}").explicit_port is None else None
        return f"{here.scheme}://{host}" + (f":{port}" if port else "")
    return f"{url}/{name}"


def _itself(name: str, settings: Settings) -> str:
    """Return the URL of a registry as clients know it, who go there if the mirror cannot help."""
    if name == HUB:
        return HUB_URL
    url = settings.upstreams[name].url
    return url if _authority(url) == name else f"https://{name}"


def _authority(url: str) -> str:
    return url.partition("://")[2]


def _quoted(text: str) -> str:
    """Quote ASCII for JSON, TOML, and YAML."""
    return json.dumps(text)
