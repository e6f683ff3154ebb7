"""Names of registries, repositories and tags."""

from __future__ import annotations

import re
from typing import NamedTuple, Self

from mirror.oci.digest import Digest
from mirror.oci.errors import NameInvalid, TagInvalid

HUB = "docker.io"
HUB_WINDOW = 6 * 3600  # seconds over which Docker Hub counts pulls; the default for others

# Host names that clients use for Docker Hub.
HUB_ALIASES = {
    "index.docker.io": HUB,
    "registry-1.docker.io": HUB,
    "registry.hub.docker.com": HUB,
}

# distribution-spec, "Pulling manifests": <name> and <tag>. The length is checked before the
# pattern, so that a hostile name cannot make the match expensive.
MAX_NAME = 255
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", re.ASCII)

# distribution/reference, "domain" (without upper case), and its rule for a first part that is a
# host.
_LABEL = "[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])(?::[0-9]{{1,5}})?", re.ASCII)


def is_host(text: str) -> bool:
    """Whether a text is a registry's name as in image references: `host[:port]`, in lower case."""
    return len(text) <= MAX_NAME and bool(_HOST.fullmatch(text))


def stands_for_host(first: str) -> bool:
    """Whether the first part of an image reference is a registry, not a part of the repository."""
    return first == "localhost" or "." in first or ":" in first


def canonical(upstream: str) -> str:
    """Return an upstream's canonical name: aliases are resolved, and case is ignored."""
    if upstream.isascii():  # some non-ASCII letters have an ASCII letter as lower case
        upstream = upstream.lower()
    return HUB_ALIASES.get(upstream, upstream)


class Repository(NamedTuple):
    """A repository of one upstream, such as `docker.io` and `library/nginx`.

    A tuple, as each request looks it up in several tables: the hash of a dataclass takes four times
    as long (measured).
    """

    upstream: str
    name: str

    @classmethod
    def parse(cls, upstream: str, name: str) -> Self:
        """Validate `name` (`upstream` is a configured one already); raises NameInvalid."""
        if not is_repository_name(name):
            raise NameInvalid(name)
        return cls(upstream, name)

    def __str__(self) -> str:
        return f"{self.upstream}/{self.name}"


def pulled_as(repository: Repository, own: str) -> str:
    """Return the shortest reference for a repository; the upstream `own` may be left out.

    The upstream is kept if the repository's first part would be taken for a host.
    """
    first = repository.name.partition("/")[0]
    plain = repository.upstream == own and not stands_for_host(first)
    return repository.name if plain else str(repository)


def is_repository_name(text: str) -> bool:
    """Whether a text is a repository's name, or the beginning of one up to a slash."""
    return len(text) <= MAX_NAME and bool(_NAME.fullmatch(text))


def full_name(upstream: str, name: str) -> str:
    """Return the name as upstream knows it: short names at Docker Hub are in `library`."""
    return f"library/{name}" if upstream == HUB and "/" not in name else name


def is_tag(text: str) -> bool:
    """Whether a text is a tag. Makes no Tag, for long listings."""
    return bool(_TAG.fullmatch(text))


class Tag(str):
    """A validated tag."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Validate `text`; raises TagInvalid."""
        if not is_tag(text):
            raise TagInvalid(text)
        return cls(text)


Reference = Tag | Digest


def parse_reference(text: str) -> Reference:
    """Parse a digest or a tag: only a digest has a colon."""
    return Digest.parse(text) if ":" in text else Tag.parse(text)
