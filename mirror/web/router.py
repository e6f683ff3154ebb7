"""The router: a request's path, parsed and validated once."""

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

_CACHED_LENGTH = 512  # characters; longer paths are not worth caching
_PROXIED = ("http://", "https://")  # the beginning of a request target in absolute form
_STATUS = ("/healthz", "/readyz", "/metrics")
_SLASHES = re.compile("//+")  # count as one slash: registries redirect to that path
_REGISTRY = re.compile(r"/(?:([^/]+)/)??v2(?:/(.*))?", re.DOTALL)  # base and rest
# Read before the registry's pattern. No upstream has such a name: it would have a dot or a port.
_CONSOLE = re.compile(
    r"/(?:(?:images|static)(?:/.*)?|requests|setup|login|events|api(?:/|/v1(?:/.*)?)?)?", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class OwnPath:
    """A path of the mirror itself, outside the registry API."""

    namespace: ClassVar[str] = ""


@dataclass(frozen=True, slots=True)
class StatusPath(OwnPath):
    """A page for operators and monitors: `/healthz`, `/readyz`, `/metrics`."""

    kind: ClassVar[str] = "own"
    name: str


@dataclass(frozen=True, slots=True)
class ConsolePath(OwnPath):
    """A path of the page or of its API, decoded, and the query as it was sent."""

    kind: ClassVar[str] = "console"
    path: str
    query: str


@dataclass(frozen=True, slots=True)
class EventsPath(ConsolePath):
    """`/events`: its answers last as long as their readers look on."""

    kind: ClassVar[str] = "events"


@dataclass(frozen=True, slots=True)
class ApiRoot:
    """`/v2/`, which says that the registry API is served here."""

    kind: ClassVar[str] = "own"
    namespace: str


@dataclass(frozen=True, slots=True)
class RepositoryPath:
    """A path below a repository; `namespace` is the upstream as named by the client's `ns`."""

    repository: Repository
    namespace: str


@dataclass(frozen=True, slots=True)
class ManifestPath(RepositoryPath):
    """`/v2/NAME/manifests/REFERENCE`."""

    kind: ClassVar[str] = "manifest"
    reference: Reference


@dataclass(frozen=True, slots=True)
class BlobPath(RepositoryPath):
    """`/v2/NAME/blobs/DIGEST`."""

    kind: ClassVar[str] = "blob"
    digest: Digest


@dataclass(frozen=True, slots=True)
class TagsPath(RepositoryPath):
    """`/v2/NAME/tags/list`; `address` is the path, with the client's prefix for the upstream."""

    kind: ClassVar[str] = "tags"
    paging: Paging
    address: str


@dataclass(frozen=True, slots=True)
class ReferrersPath(RepositoryPath):
    """`/v2/NAME/referrers/DIGEST`; `artifact_types` filters unless empty. `address` as above."""

    kind: ClassVar[str] = "referrers"
    digest: Digest
    artifact_types: tuple[str, ...]
    paging: Paging
    address: str


@dataclass(frozen=True, slots=True)
class CatalogPath:
    """`/v2/_catalog`: of the named `upstream`, or of all; repositories of `own` have no prefix."""

    kind: ClassVar[str] = "catalog"
    namespace: str
    upstream: str
    own: str
    paging: Paging
    address: str


ApiPath = ManifestPath | BlobPath | TagsPath | ReferrersPath | CatalogPath | ApiRoot
Route = StatusPath | ConsolePath | ApiPath


class Router:
    """Parses paths, and finds the upstream of each.

    In this order: the upstream in `ns`; the upstream in the path, as `/v2/NAME/…` or `/NAME/v2/…`;
    the upstream of the Host header, by `hosts` (host or host:port, in lower case, to upstream);
    `default_upstream`. A name that is not in `upstreams` is refused.
    """

    def __init__(
        self,
        upstreams: Collection[str],
        default_upstream: str = HUB,
        hosts: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._upstreams = frozenset(upstreams)
        self._default_upstream = default_upstream
        self._hosts = hosts
        self._read_at = {  # one cache per upstream, so that the target is its key
            unnamed: lru_cache(maxsize=8192)(partial(self._read, unnamed))
            for unnamed in {default_upstream, *hosts.values()}
        }

    @property
    def wants_host(self) -> bool:
        """Whether the Host header may choose the upstream."""
        return bool(self._hosts)

    def read(self, target: str, host: str = "") -> Route:
        """Parse a raw request target; raises RegistryError for a path that is not served.

        Results are cached by upstream, not by Host, which can be any text of a client.
        """
        unnamed = self._meant_by(target, host) if self._hosts else self._default_upstream
        if len(target) < _CACHED_LENGTH:
            return self._read_at[unnamed](target)
        return self._read(unnamed, target)

    def _meant_by(self, target: str, host: str) -> str:
        """Return the upstream of a request that names none, by the host it was sent to."""
        host = host_of(target, host)
        name, colon, port = host.rpartition(":")
        if not (colon and port.isdigit()):
            name = host
        return (
            self._hosts.get(host)
            or self._hosts.get(name.removesuffix("."))
            or self._default_upstream
        )

    def _read(self, unnamed: str, target: str) -> Route:
        raw, _, query = target.partition("?")
        if raw.startswith(_PROXIED):
            raw = "/" + raw.split("/", 3)[3] if raw.count("/") > 2 else "/"
        if _CONSOLE.fullmatch(raw):
            return _console(raw, query)
        if "%2f" in raw.lower() or "%5c" in raw.lower():
            raise NameInvalid(raw)
        path = unquote(raw, errors="surrogateescape")
        if path in _STATUS:
            return StatusPath(path[1:])
        registry = _REGISTRY.fullmatch(_SLASHES.sub("/", path))
        if registry is None:
            raise PathUnknown(f"nothing is served at {shown(path)}")
        base, rest = registry.groups(default="")
        return self._registry(base, rest, query, unnamed)

    def _registry(self, base: str, path: str, query: str, unnamed: str) -> Route:
        """Parse from the right end: `blobs` and `tags` are valid names of repositories, too."""
        values = _values(query)
        namespace = values.get("ns", [""])[0]
        named = [self._known(name) for name in (namespace, base) if name]
        if not path or canonical(path.removesuffix("/")) in self._upstreams:
            return ApiRoot(namespace)
        if path == "_catalog":
            upstream, base_path = (named[0] if named else ""), (f"/{base}" if base else "")
            own, pages = upstream or unnamed, paging.read(query)
            return CatalogPath(namespace, upstream, own, pages, f"{base_path}/v2/_catalog")
        name, _, last = path.rpartition("/")
        name, _, noun = name.rpartition("/")
        if noun not in ("manifests", "blobs", "referrers", "tags") or (noun, last) == ("tags", ""):
            raise PathUnknown(f"the registry API has no path {shown('/v2/' + path)}")
        prefix, repository = self._repository(name, named[0] if named else "", unnamed)
        if noun == "manifests":
            return ManifestPath(repository, namespace, parse_reference(last))
        if noun == "blobs":
            return BlobPath(repository, namespace, Digest.parse(last))
        base_path = f"/{base}/v2/{prefix}" if base else f"/v2/{prefix}"
        address = f"{base_path}{repository.name}/{noun}/{last}"
        if noun == "referrers":
            types = tuple(values.get("artifactType", ()))
            return ReferrersPath(
                repository, namespace, Digest.parse(last), types, paging.read(query), address
            )
        if last != "list":
            raise PathUnknown(f"the registry API has no path {shown('/v2/' + path)}")
        return TagsPath(repository, namespace, paging.read(query), address)

    def _repository(self, name: str, named: str, unnamed: str) -> tuple[str, Repository]:
        """Return the repository, and the prefix of `name` that names its upstream; empty if none.

        If the upstream is `named` already, only its own name counts as a prefix: BuildKit requests
        `/v2/ghcr.io/org/app/…?ns=ghcr.io` from a mirror with a path.
        """
        first, slash, rest = name.partition("/")
        upstream, is_domain = canonical(first), stands_for_host(first)
        if slash and (is_domain and upstream == named if named else upstream in self._upstreams):
            return first + slash, Repository.parse(upstream, full_name(upstream, rest))
        if slash and not named and is_domain:
            if not is_host(upstream):
                Repository.parse(unnamed, name)  # an invalid name is not an unknown one
            raise self._unknown(first)
        upstream = named or unnamed
        return "", Repository.parse(upstream, full_name(upstream, name))

    def _known(self, name: str) -> str:
        """Return the upstream with this name; raises NameUnknown."""
        upstream = canonical(name)
        if upstream not in self._upstreams:
            raise self._unknown(name)
        return upstream

    def _unknown(self, name: str) -> NameUnknown:
        known = ", ".join(sorted(self._upstreams))
        return NameUnknown(f"no upstream {shown(name)} here; the upstreams are {known}")


def read_own(target: str) -> StatusPath | ConsolePath:
    """Parse the target of a request to an address without the registry API; raises PathUnknown."""
    raw, _, query = target.partition("?")
    if raw.startswith(_PROXIED):
        raw = "/" + raw.split("/", 3)[3] if raw.count("/") > 2 else "/"
    if _CONSOLE.fullmatch(raw):
        return _console(raw, query)
    if raw in _STATUS:
        return StatusPath(raw[1:])
    raise PathUnknown(f"nothing is served at {shown(unquote(raw))}")


def _console(raw: str, query: str) -> ConsolePath:
    path = unquote(raw, errors="surrogateescape")
    return EventsPath(path, query) if path == "/events" else ConsolePath(path, query)


def host_of(target: str, header: str) -> str:
    """Return a request's host, in lower case: that of an absolute target, else the header's."""
    if target.startswith(_PROXIED):  # RFC 9112, 3.2.2
        header = target.split("/", 3)[2].partition("?")[0]
    return header.lower()


def _values(query: str) -> dict[str, list[str]]:
    try:
        return parse_qs(query, max_num_fields=20)
    except ValueError:
        raise PathUnknown("the query has more than 20 fields") from None
