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


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of one upstream: `docker.io` and `library/nginx`."""

    upstream: str
    name: str

    @classmethod
    def parse(cls, upstream: str, name: str) -> Self:
        """Validate `name` (`upstream` is one of ours already); raises NameInvalid."""
        if len(name) > MAX_NAME or not _NAME.fullmatch(name):
            raise NameInvalid(name)
        return cls(upstream, name)

    def __str__(self) -> str:
        return f"{self.upstream}/{self.name}"


def full_name(upstream: str, name: str) -> str:
    """Return the name that an upstream knows: Docker Hub's short ones are of `library`."""
    return f"library/{name}" if upstream == HUB and "/" not in name else name


class Tag(str):
    """A validated tag."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Validate `text`; raises TagInvalid."""
        if not _TAG.fullmatch(text):
            raise TagInvalid(text)
        return cls(text)


Reference = Tag | Digest


def parse_reference(text: str) -> Reference:
    """Tell a digest from a tag: a tag cannot hold a colon."""
    return Digest.parse(text) if ":" in text else Tag.parse(text)
