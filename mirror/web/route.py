"""A request's path, read once at the door into one validated value."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar
from urllib.parse import parse_qs, unquote

from mirror.oci.digest import Digest
from mirror.oci.errors import NameInvalid, NameUnknown, PageInvalid, PathUnknown, shown
from mirror.oci.names import HUB, HUB_ALIASES, Reference, Repository, full_name, parse_reference

MAX_PAGE = 1000  # entries a client may ask for (CVE-2023-2253)
_CACHED_LENGTH = 512  # characters; longer paths are not worth remembering


@dataclass(frozen=True, slots=True)
class Own:
    """Something of the mirror's own: `/v2/`, `/healthz`, `/readyz`, `/metrics`."""

    kind: ClassVar[str] = "own"
    name: str


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
    """`/v2/NAME/tags/list`; `count` is the page's length, if the client wants one."""

    kind: ClassVar[str] = "tags"
    count: int | None
    last: str


@dataclass(frozen=True, slots=True)
class ReferrersPath(Target):
    """`/v2/NAME/referrers/DIGEST`; `artifact_type` filters, if not empty."""

    kind: ClassVar[str] = "referrers"
    digest: Digest
    artifact_type: str


Route = Own | ManifestPath | BlobPath | TagsPath | ReferrersPath


class Router:
    """Reads paths. `upstreams` are the names that may be asked for; `default` needs no asking."""

    def __init__(self, upstreams: frozenset[str], default: str = HUB) -> None:
        self._upstreams = upstreams
        self._default = default
        self._remembered = lru_cache(maxsize=8192)(self._read)

    def read(self, target: str) -> Route:
        """Read a request target as it came; raises RegistryError for what is not served."""
        return self._remembered(target) if len(target) < _CACHED_LENGTH else self._read(target)

    def _read(self, target: str) -> Route:
        raw, _, query = target.partition("?")
        if raw.startswith(("http://", "https://")):  # as a proxy is asked (RFC 9112, 3.2.2)
            raw = "/" + raw.split("/", 3)[3] if raw.count("/") > 2 else "/"
        if "%2f" in raw.lower() or "%5c" in raw.lower():
            raise NameInvalid(raw)
        path = unquote(raw, errors="surrogateescape")
        if path in ("/v2", "/v2/"):
            return Own("v2")
        if path.startswith("/v2/"):
            return self._registry(path[4:], _first_values(query))
        if path in ("/healthz", "/readyz", "/metrics"):
            return Own(path[1:])
        raise PathUnknown(f"nothing is served at {shown(path)}")

    def _registry(self, path: str, query: dict[str, str]) -> Route:
        """Read from the right end: `blobs` and `tags` are good names of repositories, too."""
        name, _, last = path.rpartition("/")
        name, _, noun = name.rpartition("/")
        namespace = query.get("ns", "")
        if noun not in ("manifests", "blobs", "referrers", "tags") or (noun, last) == ("tags", ""):
            raise PathUnknown(f"no registry serves {shown('/v2/' + path)}")
        repository = self._repository(name, namespace)
        if noun == "manifests":
            return ManifestPath(repository, namespace, parse_reference(last))
        if noun == "blobs":
            return BlobPath(repository, namespace, Digest.parse(last))
        if noun == "referrers":
            wanted = query.get("artifactType", "")
            return ReferrersPath(repository, namespace, Digest.parse(last), wanted)
        if last != "list":
            raise PathUnknown(f"no registry serves {shown('/v2/' + path)}")
        return TagsPath(repository, namespace, _count(query.get("n")), query.get("last", ""))

    def _repository(self, name: str, namespace: str) -> Repository:
        upstream = HUB_ALIASES.get(namespace, namespace) or self._default
        if upstream not in self._upstreams:
            known = ", ".join(sorted(self._upstreams))
            raise NameUnknown(f"no upstream {shown(namespace)} here; there is {known}")
        return Repository.parse(upstream, full_name(upstream, name))


def _first_values(query: str) -> dict[str, str]:
    try:
        return {name: values[0] for name, values in parse_qs(query, max_num_fields=20).items()}
    except ValueError:
        raise PathUnknown("the query has more than 20 fields") from None


def _count(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise PageInvalid(f"n is {shown(text)}: a number of tags is wanted")
    return min(int(text), MAX_PAGE)
