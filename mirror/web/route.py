"""A request's path, read once at the door into one validated value."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from types import MappingProxyType
from typing import ClassVar
from urllib.parse import parse_qs, unquote

from mirror.oci import paging
from mirror.oci.digest import Digest
from mirror.oci.errors import NameInvalid, NameUnknown, PathUnknown, shown
from mirror.oci.names import (
    HUB,
    Reference,
    Repository,
    canonical,
    full_name,
    is_host,
    parse_reference,
    stands_for_host,
)
from mirror.oci.paging import Paging

_CACHED_LENGTH = 512  # characters; longer paths are not worth remembering
_PROXIED = ("http://", "https://")  # how a target begins where a proxy is asked
_SLASHES = re.compile("//+")  # are one, as for registries, which redirect to the path with one
_REGISTRY = re.compile(r"/(?:([^/]+)/)??v2(?:/(.*))?", re.DOTALL)  # base and rest


@dataclass(frozen=True, slots=True)
class Own:
    """Something of the mirror's own: `/v2/`, `/healthz`, `/readyz`, `/metrics`."""

    kind: ClassVar[str] = "own"
    name: str
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """A repository; `namespace` is what the client called its upstream, if it did."""

    repository: Repository
    namespace: str


@dataclass(frozen=True, slots=True)
class ManifestPath(Target):
    """`/v2/NAME/manifests/REFERENCE`."""

    kind: ClassVar[str] = "manifest"
    reference: Reference


@dataclass(frozen=True, slots=True)
class BlobPath(Target):
    """`/v2/NAME/blobs/DIGEST`."""

    kind: ClassVar[str] = "blob"
    digest: Digest


@dataclass(frozen=True, slots=True)
class TagsPath(Target):
    """`/v2/NAME/tags/list`; `address` is the path, with what of the client's names upstream."""

    kind: ClassVar[str] = "tags"
    paging: Paging
    address: str


@dataclass(frozen=True, slots=True)
class ReferrersPath(Target):
    """`/v2/NAME/referrers/DIGEST`; `artifact_types` filter, if any do. `address` as above."""

    kind: ClassVar[str] = "referrers"
    digest: Digest
    artifact_types: tuple[str, ...]
    paging: Paging
    address: str


@dataclass(frozen=True, slots=True)
class CatalogPath:
    """`/v2/_catalog`: of the `upstream` that was named, or of all; `own` needs no name here."""

    kind: ClassVar[str] = "catalog"
    namespace: str
    upstream: str
    own: str
    paging: Paging
    address: str


Route = Own | CatalogPath | ManifestPath | BlobPath | TagsPath | ReferrersPath


class Router:
    """Reads paths, and finds the upstream that is meant.

    That is, first of all, what `ns` names; then what the path names, as `/v2/NAME/…` or
    `/NAME/v2/…`; then what the Host header means, by `hosts` (host or host:port, in lower case, to
    upstream); then `default`. Only `upstreams` can be meant: all else is refused.
    """

    def __init__(
        self,
        upstreams: Collection[str],
        default: str = HUB,
        hosts: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._upstreams = frozenset(upstreams)
        self._default = default
        self._hosts = hosts
        self._read_at = {  # a memory for each, as its key is then no more than the target
            unnamed: lru_cache(maxsize=8192)(partial(self._read, unnamed))
            for unnamed in {default, *hosts.values()}
        }

    @property
    def wants_host(self) -> bool:
        """Whether the Host header means anything here."""
        return bool(self._hosts)

    def read(self, target: str, host: str = "") -> Route:
        """Read a request target as it came; raises RegistryError for what is not served.

        What is remembered is told apart by upstream, not by Host: that is any client's own text.
        """
        unnamed = self._meant_by(target, host) if self._hosts else self._default
        if len(target) < _CACHED_LENGTH:
            return self._read_at[unnamed](target)
        return self._read(unnamed, target)

    def _meant_by(self, target: str, host: str) -> str:
        """Return the upstream of a request that does not name one, by the host that it went to."""
        host = host_of(target, host)
        name, colon, port = host.rpartition(":")
        if not (colon and port.isdigit()):
            name = host
        return self._hosts.get(host) or self._hosts.get(name.removesuffix(".")) or self._default

    def _read(self, unnamed: str, target: str) -> Route:
        raw, _, query = target.partition("?")
        if raw.startswith(_PROXIED):
            raw = "/" + raw.split("/", 3)[3] if raw.count("/") > 2 else "/"
        if "%2f" in raw.lower() or "%5c" in raw.lower():
            raise NameInvalid(raw)
        path = unquote(raw, errors="surrogateescape")
        if path in ("/healthz", "/readyz", "/metrics"):
            return Own(path[1:])
        registry = _REGISTRY.fullmatch(_SLASHES.sub("/", path))
        if registry is None:
            raise PathUnknown(f"nothing is served at {shown(path)}")
        base, rest = registry.groups(default="")
        return self._registry(base, rest, query, unnamed)

    def _registry(self, base: str, path: str, query: str, unnamed: str) -> Route:
        """Read from the right end: `blobs` and `tags` are good names of repositories, too."""
        values = _values(query)
        namespace = values.get("ns", [""])[0]
        named = [self._known(name) for name in (namespace, base) if name]
        if not path or canonical(path.removesuffix("/")) in self._upstreams:
            return Own("v2", namespace)
        if path == "_catalog":
            upstream, front = (named[0] if named else ""), (f"/{base}" if base else "")
            own, pages = upstream or unnamed, paging.read(query)
            return CatalogPath(namespace, upstream, own, pages, f"{front}/v2/_catalog")
        name, _, last = path.rpartition("/")
        name, _, noun = name.rpartition("/")
        if noun not in ("manifests", "blobs", "referrers", "tags") or (noun, last) == ("tags", ""):
            raise PathUnknown(f"no registry serves {shown('/v2/' + path)}")
        prefix, repository = self._repository(name, named[0] if named else "", unnamed)
        if noun == "manifests":
            return ManifestPath(repository, namespace, parse_reference(last))
        if noun == "blobs":
            return BlobPath(repository, namespace, Digest.parse(last))
        front = f"/{base}/v2/{prefix}" if base else f"/v2/{prefix}"
        address = f"{front}{repository.name}/{noun}/{last}"
        if noun == "referrers":
            types = tuple(values.get("artifactType", ()))
            return ReferrersPath(
                repository, namespace, Digest.parse(last), types, paging.read(query), address
            )
        if last != "list":
            raise PathUnknown(f"no registry serves {shown('/v2/' + path)}")
        return TagsPath(repository, namespace, paging.read(query), address)

    def _repository(self, name: str, named: str, unnamed: str) -> tuple[str, Repository]:
        """Find whose repository it is; returns what of `name` said so, too: a first part, or none.

        Where the upstream is `named` already, the name is that upstream's own, but for its name
        before it: BuildKit asks a mirror with a path for `/v2/ghcr.io/org/app/…?ns=ghcr.io`.
        """
        first, slash, rest = name.partition("/")
        upstream, is_domain = canonical(first), stands_for_host(first)
        if slash and (is_domain and upstream == named if named else upstream in self._upstreams):
            return first + slash, Repository.parse(upstream, full_name(upstream, rest))
        if slash and not named and is_domain:
            if not is_host(upstream):
                Repository.parse(unnamed, name)  # no name at all is no unknown one
            raise self._unknown(first)
        upstream = named or unnamed
        return "", Repository.parse(upstream, full_name(upstream, name))

    def _known(self, name: str) -> str:
        """Return the upstream of this name; raises NameUnknown."""
        upstream = canonical(name)
        if upstream not in self._upstreams:
            raise self._unknown(name)
        return upstream

    def _unknown(self, name: str) -> NameUnknown:
        known = ", ".join(sorted(self._upstreams))
        return NameUnknown(f"no upstream {shown(name)} here; there is {known}")


def host_of(target: str, header: str) -> str:
    """Return the host that a request went to, in lower case: a target's own, else the header's."""
    if target.startswith(_PROXIED):  # RFC 9112, 3.2.2
        header = target.split("/", 3)[2].partition("?")[0]
    return header.lower()


def _values(query: str) -> dict[str, list[str]]:
    try:
        return parse_qs(query, max_num_fields=20)
    except ValueError:
        raise PathUnknown("the query has more than 20 fields") from None
