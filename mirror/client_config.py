"""The configuration files of clients that pull through this mirror, ready to use."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from yarl import URL

from mirror.oci.names import HUB
from mirror.settings import HUB_URL, ConfigurationError, Settings
from mirror.web.auth.host_names import HostNames
from mirror.web.router import RepositoryPath, Router

Files: TypeAlias = dict[str, str]  # contents, by path in the client's own folder

_HEAD = "# Written by `mirror client-config`.\n"
_CA = "mirror-ca.crt"  # for clients with a key for a CA's file
_K3S_CLOSED = "config.yaml.d/mirror-only.yaml"  # k3s reads all of this folder beside its file
_DOCKER_CA = "ca.crt"  # in the folder of the host that has the certificate
_REGISTRYS_CA = "registry-ca.crt"  # in the folder of a registry, beside the file that names it


@dataclass(frozen=True, slots=True)
class ClientEndpoint:
    """The mirror's address for clients: `url` is scheme, host and port.

    `ca` is the CA of its certificate, in PEM; empty where clients trust it already. With `only`,
    clients use no other registry: a refusal by the mirror is final. `registries` has, in PEM, the
    CAs of upstreams that have their own.
    """

    url: str
    ca: str = ""
    only: bool = False
    registries: Mapping[str, str] = field(default_factory=dict)

    @property
    def authority(self) -> str:
        """Host and port, for clients that take no scheme."""
        return _authority(self.url)

    def trust(self, path: str) -> Files:
        """Return the CA as a client's file, if there is one."""
        return {path: self.ca} if self.ca else {}


def files(client: str, place: ClientEndpoint, settings: Settings) -> Files:
    """Return a client's files for the mirror at a place, by its settings.

    `client` is one of CLIENTS; docs/clients.md says where each file goes. Raises
    ConfigurationError where a client cannot express the configuration, or would be refused.
    """
    if settings.host_names and not _is_known(place, settings):
        raise ConfigurationError(
            f"the mirror answers no client that calls it {place.authority}: add that name to "
            f"host_names, or set --url to a name from it: {', '.join(settings.host_names)}"
        )
    return CLIENTS[client](place, settings)


def _is_known(place: ClientEndpoint, settings: Settings) -> bool:
    names = HostNames({*settings.host_names, *settings.hosts()})
    return names.know(place.authority.lower())


def _docker(place: ClientEndpoint, settings: Settings) -> Files:
    """Return dockerd's files, which differ between its image stores.

    The classic store mirrors Docker Hub only, sends no registry name, and cannot be restricted to
    the mirror. The containerd image store, and BuildKit with either, read containerd's files (from
    28.5 on). Without `only` there is no file for all other registries: `insecure-registries` has no
    effect on a registry that has a file (moby, daemon/hosts.go).
    """
    told = {} if place.only else _classic(place, settings)
    names = [*settings.upstreams, *(["_default"] if place.only else [])]
    trusted = f"{place.authority}/{_DOCKER_CA}"
    for name in names:
        told |= _folder(f"certs.d/{name}", place, name, settings, trusted)
    return told | place.trust(f"certs.d/{trusted}")


def _classic(place: ClientEndpoint, settings: Settings) -> Files:
    """Return the files of dockerd's classic store; before 25, it rejects a mirror with a path."""
    address = _address(place.url, HUB, settings)
    if address is None:
        raise ConfigurationError(
            f"{place.url} is not {HUB} for clients that name no upstream, such as dockerd: set "
            f'default_upstream = "{HUB}", or a host of the mirror in `hosts` of upstreams."{HUB}"'
        )
    told = {"daemon.json": json.dumps({"registry-mirrors": [address]}) + "\n"}
    return told | place.trust(f"certs.d/{_authority(address)}/{_DOCKER_CA}")


def _containerd(place: ClientEndpoint, settings: Settings) -> Files:
    """Return containerd's files: a folder per registry, one for others. Requests have `ns`."""
    names = [*settings.upstreams, "_default"]
    told: Files = {}
    for name in names:
        told |= _folder(name, place, name, settings, _CA)
    return told | place.trust(_CA)


def _folder(path: str, place: ClientEndpoint, name: str, settings: Settings, trusted: str) -> Files:
    """Return a registry's folder, with its own CA: beside a `hosts.toml` no other is looked for."""
    own = "" if place.only else place.registries.get(name, "")
    if name not in settings.upstreams or not _is_at(settings.upstreams[name].url, name):
        own = ""  # the CA of another host's certificate
    told = {f"{path}/hosts.toml": _hosts(place, name, settings, trusted, named=bool(own))}
    return told | ({f"{path}/{_REGISTRYS_CA}": own} if own else {})


def _hosts(
    place: ClientEndpoint, name: str, settings: Settings, trusted: str, *, named: bool
) -> str:
    """Return a registry's `hosts.toml`: the mirror, and the registry as its fallback unless `only`.

    `server` is asked last; without it, that is the registry itself. With `only` it is the mirror
    again, for pushes only, or each refused request would be sent twice. A file without a host table
    is ignored by version 1.6 (measured). `trusted` is the CA's file, relative to the folder of all
    registries' folders; with `named`, the registry's own CA is beside this file.
    """
    ca = f'ca = "../{trusted}"\n' if place.ca else ""
    server = ""
    if place.only:
        server = f'server = {_quoted(place.url)}\ncapabilities = ["push"]\n{ca}\n'
    elif name != "_default":
        own = f"ca = {_quoted(_REGISTRYS_CA)}\n" if named else ""
        server = f"server = {_quoted(_itself(name, settings))}\n{own}\n"
    pull = f'[host.{_quoted(place.url)}]\n  capabilities = ["pull", "resolve"]\n'
    return f"{_HEAD}{server}{pull}{ca and '  ' + ca}"


def _podman(place: ClientEndpoint, settings: Settings) -> Files:
    """Return the files of containers/image, which requests the names in the mirror's location."""
    found = {name: _location(place, name, settings) for name in settings.upstreams}
    if place.only and None in found.values():
        lost = next(name for name, location in found.items() if location is None)
        raise ConfigurationError(
            f"--only: podman and its kin cannot ask the mirror for {lost}, as no path can have the "
            f'colon: set a host of the mirror in `hosts` of upstreams."{lost}"'
        )
    tables = [_podman_registry(place, name, found[name], settings) for name in found]
    told = {"registries.conf": "\n".join([_HEAD, *tables])}
    for location in filter(None, found.values()):
        told |= place.trust(f"certs.d/{location.partition('/')[0]}/ca.crt")
    return told


def _location(place: ClientEndpoint, name: str, settings: Settings) -> str | None:
    if ":" not in name:
        return f"{place.authority}/{name}"
    address = _address(place.url, name, settings)  # a path cannot contain a colon
    return None if address is None else _authority(address)


def _podman_registry(
    place: ClientEndpoint, name: str, location: str | None, settings: Settings
) -> str:
    if location is None:
        return f"# {name}: needs a host of the mirror in `hosts`\n"
    if place.only:
        return (
            f"[[registry]]\nprefix = {_quoted(name)}\n"
            f"location = {_quoted(location)}\n{_insecure(place.url)}"
        )
    return (
        f"[[registry]]\nprefix = {_quoted(name)}\nlocation = {_quoted(name)}\n"
        f"{_insecure(_itself(name, settings))}\n[[registry.mirror]]\n"
        f"location = {_quoted(location)}\n{_insecure(place.url)}"
    )


def _insecure(url: str) -> str:
    return "insecure = true\n" if url.startswith("http:") else ""


def _buildkit(place: ClientEndpoint, settings: Settings) -> Files:
    """Return BuildKit's files: requests have `ns`, and a table per host says whether it has TLS."""
    if place.only:  # its resolver puts the registry behind all mirrors (buildkit, util/resolver)
        raise ConfigurationError(
            "--only: buildkitd always falls back to the registry; dockerd's own "
            "BuildKit (client-config docker --only) does not"
        )
    mirror = _quoted(place.authority)
    tables = []
    for name in settings.upstreams:
        plain = "  http = true\n" if _itself(name, settings).startswith("http:") else ""
        tables.append(f"[registry.{_quoted(name)}]\n  mirrors = [{mirror}]\n{plain}")
    if URL(place.url).scheme == "http":
        tables.append(f"[registry.{mirror}]\n  http = true\n")
    elif place.ca:
        tables.append(f'[registry.{mirror}]\n  ca = ["{FOLDERS["buildkit"]}/{_CA}"]\n')
    return {"buildkitd.toml": "\n".join([_HEAD, *tables])} | place.trust(_CA)


def _k3s(place: ClientEndpoint, settings: Settings) -> Files:
    """Return the files of k3s and RKE2, which generate containerd's files from them.

    They use https for a registry itself, except if it is also an endpoint (k3s,
    pkg/agent/containerd/config.go).
    """
    endpoints = {name: [place.url] for name in settings.upstreams}
    if place.only:
        endpoints["*"] = [place.url]
    else:
        for name in settings.upstreams:
            itself = _itself(name, settings)
            endpoints[name] += [itself] if itself.startswith("http:") else []
    mirrors = "".join(
        f"  {_quoted(name)}:\n    endpoint:\n"
        + "".join(f"      - {_quoted(each)}\n" for each in asked)
        for name, asked in endpoints.items()
    )
    trusted = (
        f"configs:\n  {_quoted(place.authority)}:\n    tls:\n"
        f"      ca_file: {FOLDERS['k3s']}/{_CA}\n"
    )
    text = f"{_HEAD}mirrors:\n{mirrors}" + (trusted if place.ca else "")
    closed = {_K3S_CLOSED: f"{_HEAD}disable-default-registry-endpoint: true\n"}
    return {"registries.yaml": text} | (closed if place.only else {}) | place.trust(_CA)


# The folders of clients that need absolute paths in their files.
FOLDERS: Mapping[str, str] = {"buildkit": "/etc/buildkit", "k3s": "/etc/rancher/k3s"}
OWN_CAS = frozenset({"docker", "containerd"})  # clients that are told of `registries`
CLIENTS: Mapping[str, Callable[[ClientEndpoint, Settings], Files]] = {
    "docker": _docker,
    "containerd": _containerd,
    "podman": _podman,
    "cri-o": _podman,
    "buildah": _podman,
    "skopeo": _podman,
    "buildkit": _buildkit,
    "k3s": _k3s,
}


def _address(url: str, name: str, settings: Settings) -> str | None:
    """Return the URL at which the mirror is this upstream, for clients that name no registry."""
    hosts = settings.hosts()
    here = URL(url)
    router = Router(settings.upstreams, settings.default_upstream, hosts)
    route = router.read("/v2/a/b/tags/list", here.authority)
    if isinstance(route, RepositoryPath) and route.repository.upstream == name:
        return url
    for host in settings.upstreams[name].hosts:
        port = here.explicit_port if URL(f"//{host}").explicit_port is None else None
        return f"{here.scheme}://{host}" + (f":{port}" if port else "")
    return None


def _itself(name: str, settings: Settings) -> str:
    """Return the URL of a registry for clients that fall back to it."""
    if name == HUB:
        return HUB_URL
    url = settings.upstreams[name].url
    return f"{URL(url).scheme if _is_at(url, name) else 'https'}://{name}"


def _is_at(url: str, name: str) -> bool:
    """Whether a URL leads to the host that a registry's name means, at the same port."""
    there = URL(url)
    short = there.host_subcomponent or ""
    return name == f"{short}:{there.port}" or (name == short and there.is_default_port())


def _authority(url: str) -> str:
    return url.partition("://")[2]


def _quoted(text: str) -> str:
    """Quote ASCII for JSON, TOML, and YAML."""
    return json.dumps(text)
