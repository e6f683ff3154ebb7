"""Image names on the command line: an image, content by digest, or a repository."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from mirror.oci.digest import Digest
from mirror.oci.errors import NameInvalid
from mirror.oci.names import (
    HUB,
    Reference,
    Repository,
    Tag,
    canonical,
    full_name,
    is_host,
    stands_for_host,
)

LATEST = Tag("latest")  # the tag of an image that is named without one


@dataclass(frozen=True, slots=True)
class ImageName:
    """A tag or a manifest of one repository."""

    repository: Repository
    reference: Reference

    def __str__(self) -> str:
        sign = "@" if isinstance(self.reference, Digest) else ":"
        return f"{self.repository}{sign}{self.reference}"


Target = ImageName | Digest | Repository


def parse_target(text: str, upstreams: Collection[str] = ()) -> Target:
    """Parse `nginx:1.25`, `ghcr.io/a/b@sha256:…`, `sha256:…` or `library/nginx`, as docker does.

    `upstreams` are names that are recognised as registries even without a dot. Raises NameInvalid,
    TagInvalid, or DigestInvalid.
    """
    if text.startswith(("sha256:", "sha512:")):
        return Digest.parse(text)
    name, at, digest = text.partition("@")
    head, colon, tag = name.rpartition(":")
    tagged = bool(colon) and "/" not in tag  # otherwise the colon precedes a registry's port
    if at and tagged:
        raise NameInvalid(text)
    repository = _repository(head if tagged else name, upstreams)
    if at:
        return ImageName(repository, Digest.parse(digest))
    return ImageName(repository, Tag.parse(tag)) if tagged else repository


def parse_image(text: str, upstreams: Collection[str] = ()) -> ImageName:
    """Parse an image; without a tag or a digest the tag `latest` is meant, as docker has it.

    Of `nginx:1.25@sha256:…` the digest counts, as it does to engines. Raises NameInvalid, also for
    a digest without a repository and for a registry that is no host, TagInvalid, or DigestInvalid.
    """
    name, at, digest = text.partition("@")
    head, colon, tag = name.rpartition(":")
    if at and colon and "/" not in tag:
        Tag.parse(tag)
        text = f"{head}@{digest}"
    target = parse_target(text, upstreams)
    if isinstance(target, Digest) or not is_host(_repository_of(target).upstream):
        raise NameInvalid(text)
    return target if isinstance(target, ImageName) else ImageName(target, LATEST)


def _repository(text: str, upstreams: Collection[str]) -> Repository:
    first, slash, rest = text.partition("/")
    if slash and (first in upstreams or stands_for_host(first)):
        upstream = canonical(first)
        return Repository.parse(upstream, full_name(upstream, rest))
    return Repository.parse(HUB, full_name(HUB, text))


def _repository_of(target: ImageName | Repository) -> Repository:
    return target.repository if isinstance(target, ImageName) else target
