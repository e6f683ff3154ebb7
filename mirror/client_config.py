"""What a client has to be told of this mirror: its own configuration files, ready to use."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from yarl import URL

from mirror.oci.names import HUB
from mirror.settings import HUB_URL, ConfigurationError, Settings
from mirror.web.host_names import HostNames
from mirror.web.route import Router, Target

Files: TypeAlias = dict[str, str]  # contents, by path in the client's own folder

_HEAD = "# Written by `mirror client-config`.\n"
_CA = "mirror-ca.crt"  # for clients whose files name it
_K3S_CLOSED = "config.yaml.d/mirror-only.yaml"  # k3s reads all of this folder beside its file
_DOCKER_CA = "ca.crt"  # in the folder of the host whose certificate it signed
_REGISTRYS_CA = "registry-ca.crt"  # in the folder of a registry, beside the file that names it


@dataclass(frozen=True, slots=True)
class Place:
    """Where clients reach the mirror: `url` is scheme, host and port.

    `ca` is, in PEM, who signed its certificate; empty where clients know that anyway.
    With `only` clients go nowhere else: what the mirror refuses they do not get. `registries` has,
    in PEM, who signed the certificates of upstreams, of those that have a CA of their own.
    """

    url: str
    ca: str = ""
    only: bool = False
    registries: Mapping[str, str] = field(default_factory=dict)

    @property
    def authority(self) -> str:
        """Host and port, as clients write them where they want no scheme."""
        return _authority(self.url)

    def trust(self, path: str) -> Files:
        """Return the CA as a client's file, if it needs one."""
        return {path: self.ca} if self.ca else {}


def files(client: str, place: Place, settings: Settings) -> Files:
    """Return a client's files for the mirror at a place, as it is set.

    `client` is one of CLIENTS. Where each kind of file lies is in docs/clients.md. Raises
    ConfigurationError where a client could not say what it wants, or would be refused.
    """
    if settings.host_names and not _is_known(place, settings):
        raise ConfigurationError(
            f"the mirror answers nobody who knows it as {place.authority}: wanted is its name in "
            f"host_names, or one that is there as --url: {', '.join(settings.host_names)}"
        )
    return CLIENTS[client](place, settings)


def _is_known(place: Place, settings: Settings) -> bool:
    names = HostNames({*settings.host_names, *settings.hosts()})
    return names.know(place.authority.lower())


def _docker(place: Place, settings: Settings) -> Files:
    """Tell dockerd, whose image stores have different files.

    Its classic store has mirrors for Docker Hub only, does not tell them so, and cannot be closed.
    The containerd image store, and BuildKit with either, read containerd's files (from 28.5 on).
    There is no file for all other registries where these may be asked: `insecure-registries` has
    no effect on a registry that has a file (moby, daemon/hosts.go).
    """
    told = {} if place.only else _classic(place, settings)
    names = [*settings.upstreams, *(["_default"] if place.only else [])]
    trusted = f"{place.authority}/{_DOCKER_CA}"
    for name in names:
        told |= _folder(f"certs.d/{name}", place, name, settings, trusted)
    return told | place.trust(f"certs.d/{trusted}")


def _classic(place: Place, settings: Settings) -> Files:
    """Tell dockerd's classic image store; a daemon before 25 does not start with a mirror's path.

    Measured with 20.10. Raises ConfigurationError where nothing but a path means Docker Hub.
    """
    address = _address(place.url, HUB, settings)
    if address is None:
        raise ConfigurationError(
            f"{place.url} is not {HUB} to who names no upstream, as dockerd: wanted is "
            f'default_upstream = "{HUB}", or a host of the mirror in `hosts` of upstreams."{HUB}"'
        )
    told = {"daemon.json": json.dumps({"registry-mirrors": [address]}) + "\n"}
    return told | place.trust(f"certs.d/{_authority(address)}/{_DOCKER_CA}")


def _containerd(place: Place, settings: Settings) -> Files:
    """Tell containerd, which says what it wants by `ns`: a folder per registry, one for others."""
    names = [*settings.upstreams, "_default"]
    told: Files = {}
    for name in names:
        told |= _folder(name, place, name, settings, _CA)
    return told | place.trust(_CA)


def _folder(path: str, place: Place, name: str, settings: Settings, trusted: str) -> Files:
    """Write a registry's folder, where its own CA is not looked for beside a `hosts.toml`."""
    own = "" if place.only else place.registries.get(name, "")
    if name not in settings.upstreams or not _is_at(settings.upstreams[name].url, name):
        own = ""  # what signed another name's certificate
    told = {f"{path}/hosts.toml": _hosts(place, name, settings, trusted, named=bool(own))}
    return told | ({f"{path}/{_REGISTRYS_CA}": own} if own else {})


def _hosts(place: Place, name: str, settings: Settings, trusted: str, *, named: bool) -> str:
    """Write a registry's `hosts.toml`: the mirror, and the registry behind it if that may be asked.

    `server` is asked last, and is the registry itself where a file has none; as the mirror's once
    more it may only be pushed to, or each refusal would be asked for twice. A table there must be:
    version 1.6 ignores a file without (measured). `trusted` is the CA's file, seen from the folder
    that has all registries' folders; with `named` the registry's own lies beside this one.
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


def _podman(place: Place, settings: Settings) -> Files:
    """Tell containers/image, which asks for what stands in the mirror's location."""
    found = {name: _location(place, name, settings) for name in settings.upstreams}
    if place.only and None in found.values():
        lost = next(name for name, location in found.items() if location is None)
        raise ConfigurationError(
            f"--only: podman and its kin cannot ask the mirror for {lost}, as no path can hold the "
            f'colon: wanted is a host of the mirror in `hosts` of upstreams."{lost}"'
        )
    tables = [_podman_registry(place, name, found[name], settings) for name in found]
    told = {"registries.conf": "\n".join([_HEAD, *tables])}
    for location in filter(None, found.values()):
        told |= place.trust(f"certs.d/{location.partition('/')[0]}/ca.crt")
    return told


def _location(place: Place, name: str, settings: Settings) -> str | None:
    if ":" not in name:
        return f"{place.authority}/{name}"
    address = _address(place.url, name, settings)  # a path cannot hold the colon
    return None if address is None else _authority(address)


def _podman_registry(place: Place, name: str, location: str | None, settings: Settings) -> str:
    if location is None:
        return f"# {name}: wants a host of the mirror's that means it (hosts)\n"
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


def _buildkit(place: Place, settings: Settings) -> Files:
    """Tell BuildKit, which says what it wants by `ns`, and by a table whether it takes TLS."""
    if place.only:  # its resolver puts the registry behind all mirrors (buildkit, util/resolver)
        raise ConfigurationError(
            "--only: buildkitd goes on to the registry whatever its file says; dockerd's own "
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


def _k3s(place: Place, settings: Settings) -> Files:
    """Tell k3s and RKE2, which make their containerd's files of it.

    They ask a registry itself by https only, but for what is an endpoint, too (k3s,
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


# Where the files of those that can name others by their whole path only are expected.
FOLDERS: Mapping[str, str] = {"buildkit": "/etc/buildkit", "k3s": "/etc/rancher/k3s"}
OWN_CAS = frozenset({"docker", "containerd"})  # clients that are told of `registries`
CLIENTS: Mapping[str, Callable[[Place, Settings], Files]] = {
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
    return None


def _itself(name: str, settings: Settings) -> str:
    """Return the URL of a registry as clients know it, who go there if the mirror cannot help."""
    if name == HUB:
        return HUB_URL
    url = settings.upstreams[name].url
    return f"{URL(url).scheme if _is_at(url, name) else 'https'}://{name}"


def _is_at(url: str, name: str) -> bool:
    """Whether a URL leads to the host that a registry has for a name, at the same port."""
    there = URL(url)
    short = there.host_subcomponent or ""
    return name == f"{short}:{there.port}" or (name == short and there.is_default_port())


def _authority(url: str) -> str:
    return url.partition("://")[2]


def _quoted(text: str) -> str:
    """Quote ASCII for JSON, TOML, and YAML."""
    return json.dumps(text)
