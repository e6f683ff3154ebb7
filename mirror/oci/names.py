"""Names: repositories and tags, and the upstream a repository belongs to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from mirror.oci.digest import Digest
from mirror.oci.errors import NameInvalid, TagInvalid

HUB = "docker.io"

# What clients call Docker Hub beside its name (protocol: "docker.io = index.docker.io").
HUB_ALIASES = {
    "index.docker.io": HUB,
    "registry-1.docker.io": HUB,
    "registry.hub.docker.com": HUB,
}

# distribution-spec, "Pulling manifests": <name> and <tag>. The length is checked before the
# pattern is tried, so that a hostile name cannot make the match expensive.
MAX_NAME = 255
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", re.ASCII)

# distribution/reference, "domain" (without upper case), and its rule which first parts are one.
_LABEL = "[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])(?::[0-9]{{1,5}})?", re.ASCII)


def is_host(text: str) -> bool:
    """Whether this is a registry's name as images use it: `host[:port]`, in lower case."""
    return len(text) <= MAX_NAME and bool(_HOST.fullmatch(text))


def stands_for_host(first: str) -> bool:
    """Whether the first part of an image's name is its registry, not a part of the repository."""
    return first == "localhost" or "." in first or ":" in first


def canonical(upstream: str) -> str:
    """Return the one name of an upstream that has several; host names know no case."""
    if upstream.isascii():  # other letters have ASCII's for lower case, too
        upstream = upstream.lower()
    return HUB_ALIASES.get(upstream, upstream)


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of one upstream: `docker.io` and `library/nginx`."""

    upstream: str
    name: str

    @classmethod
    def parse(cls, upstream: str, name: str) -> Self:
        """Validate `name` (`upstream` is one of ours already); raises NameInvalid."""
        if not is_repository_name(name):
            raise NameInvalid(name)
        return cls(upstream, name)

    def __str__(self) -> str:
        return f"{self.upstream}/{self.name}"


def pulled_as(repository: Repository, own: str) -> str:
    """Return what a repository is pulled by where `own` is the upstream that needs no name.

    A first part that looks like a host would be taken for one.
    """
    first = repository.name.partition("/")[0]
    plain = repository.upstream == own and not stands_for_host(first)
    return repository.name if plain else str(repository)


def is_repository_name(text: str) -> bool:
    """Whether this is a repository's name, or the beginning of one up to a slash."""
    return len(text) <= MAX_NAME and bool(_NAME.fullmatch(text))


def full_name(upstream: str, name: str) -> str:
    """Return the name that an upstream knows: Docker Hub's short ones are of `library`."""
    return f"library/{name}" if upstream == HUB and "/" not in name else name


def is_tag(text: str) -> bool:
    """Whether this is a tag; for where there are too many to make a value of each."""
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
    """Tell a digest from a tag: a tag cannot hold a colon."""
    return Digest.parse(text) if ":" in text else Tag.parse(text)
