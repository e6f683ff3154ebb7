"""Referrers of a digest: from upstream's API, or from the tag that replaces a missing API."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from mirror.content.manifests.resolver import ManifestResolver
from mirror.oci import media, strict_json
from mirror.oci.digest import Digest
from mirror.oci.errors import (
    Denied,
    DigestInvalid,
    ManifestUnknown,
    UpstreamFailure,
    UpstreamMisbehaved,
)
from mirror.oci.manifest import MAX_SIZE
from mirror.oci.names import Repository, Tag
from mirror.oci.paging import Paging
from mirror.upstream.client import RegistryClient
from mirror.upstream.pages import ListingPage

_MAX_PAGES = 20
_HEAD = f'{{"schemaVersion": 2, "mediaType": "{media.OCI_INDEX}", "manifests": ['.encode()

# Descriptors as JSON, each with its artifact type, "" for none.
Items: TypeAlias = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Referrers:
    """Descriptors, unfiltered; `following` is the next page. `memory` is in bytes.

    `api` tells that they come from upstream's API. `whole` is the index of all of them, written
    once for all clients: that takes 20 ms of the interpreter for the longest (measured).
    """

    items: Items
    whole: bytes
    memory: int = 0
    following: Paging | None = None
    api: bool = False

    async def index(self, artifact_types: Collection[str]) -> bytes:
        """Return the index of the descriptors of these types, or of all if no type is given."""
        if not artifact_types:
            return self.whole
        return await strict_json.on_thread(_filtered, self.whole, self.items, artifact_types)


@dataclass(frozen=True, slots=True)
class _Subject:
    repository: Repository
    digest: Digest
    client: str


class ReferrersFinder:
    """Asks upstreams for referrers."""

    def __init__(
        self, registries: Mapping[str, RegistryClient], manifests: ManifestResolver
    ) -> None:
        self._registries = registries
        self._manifests = manifests
        self._with_api: set[str] = set()  # upstreams with an API that has answered

    async def find(
        self, repository: Repository, digest: Digest, paging: Paging, client: str
    ) -> Referrers:
        """Ask for all pages from this one on; raises UpstreamFailure.

        If upstream has no such API, the fallback tag is read (distribution-spec, "Unavailable
        Referrers API"). Some registries deny unknown paths: after a denial both are tried.
        """
        subject = _Subject(repository, digest, client)
        try:
            found = await self._by_api(subject, paging)
        except Denied:
            if repository.upstream in self._with_api:
                raise
            if tagged := await self._by_tag_at_most(subject):
                return tagged
            raise
        return await self._by_tag(subject) if found is None else found

    async def _by_api(self, subject: _Subject, paging: Paging) -> Referrers | None:
        """Ask for as many pages as fit into an index; `None` if upstream has no such API."""
        found: Items = []
        quota, memory, seen = MAX_SIZE, 0, set[Paging]()
        following: Paging | None = paging
        while following is not None and len(seen) < _MAX_PAGES:
            if following in seen:
                raise UpstreamMisbehaved("upstream's Link leads back to a page before")
            seen.add(following)
            page = await self._page(subject, following)
            items = None if page is None else await strict_json.on_thread(_index, page.body, page)
            if page is None or items is None:
                if following.fields:  # a page that the API itself linked to
                    raise UpstreamMisbehaved("upstream does not have its next page of referrers")
                return None
            self._with_api.add(subject.repository.upstream)
            quota -= len(page.body)
            if quota < 0:
                break
            found += items
            memory += strict_json.memory(page.body)
            following = page.following
        whole = _written(found)
        return Referrers(found, whole, memory + len(whole), following, api=True)

    async def _page(self, subject: _Subject, paging: Paging) -> ListingPage | None:
        registry = self._registries[subject.repository.upstream]
        path = f"referrers/{subject.digest}"
        try:
            return await registry.get_page("referrers", subject.repository.name, path, paging)
        except ManifestUnknown:
            return None

    async def _by_tag_at_most(self, subject: _Subject) -> Referrers | None:
        """Read the fallback tag; `None` if that fails or lists nothing."""
        try:
            tagged = await self._by_tag(subject)
        except UpstreamFailure:
            return None
        return tagged if tagged.items else None

    async def _by_tag(self, subject: _Subject) -> Referrers:
        """Read the index under the fallback tag ("Referrers Tag Schema").

        A registry may take the tag for the digest that it spells, and answer with the subject
        (GitLab): that is no list of referrers, nor is a multi-platform image.
        """
        digest, get = subject.digest, self._manifests.get
        tag = Tag.parse(f"{digest.algorithm[:32]}-{digest.hex[:64]}")
        try:
            found = await get(subject.repository, tag, subject.client, head=True)
            described = found.descriptor
            if described.digest == digest or described.media_type not in media.INDEXES:
                return Referrers([], _written([]))
            found = await get(subject.repository, tag, subject.client, head=False)
        except ManifestUnknown:
            return Referrers([], _written([]))
        if found.body is None or found.descriptor.digest == digest:
            return Referrers([], _written([]))
        items = await strict_json.on_thread(_tagged, found.body)
        whole = _written(items)
        return Referrers(items, whole, strict_json.memory(found.body) + len(whole))


def _index(body: bytes, page: ListingPage) -> Items | None:
    """Read an index of the API; `None` for another body: a web page, `{}`, an error document.

    Raises UpstreamMisbehaved for an index that cannot be read.
    """
    try:
        document = strict_json.read(body, anew=True)
    except ValueError:
        if page.media_type != media.OCI_INDEX:  # clients take that for a missing API
            return None
        raise UpstreamMisbehaved("upstream's list of referrers is no JSON object") from None
    if "errors" in document or not document.keys() & {"manifests", "mediaType", "schemaVersion"}:
        return None
    return _items(_descriptors(document))


def _tagged(body: bytes) -> Items:
    """Read the index of a fallback tag. Platforms of an image are not referrers."""
    try:
        items = _descriptors(strict_json.read(body, anew=True))
    except ValueError:
        raise UpstreamMisbehaved("upstream's list of referrers is no JSON object") from None
    return _items(item for item in items if "artifactType" in item or "platform" not in item)


def _items(descriptors: Iterable[dict[str, Any]]) -> Items:
    return [_item(descriptor) for descriptor in descriptors]


def _item(descriptor: dict[str, Any]) -> tuple[str, bytes]:
    kind = descriptor.get("artifactType")
    written = json.dumps(descriptor, allow_nan=False).encode()
    return kind if isinstance(kind, str) else "", written


def _filtered(_: bytes, items: Items, artifact_types: Collection[str]) -> bytes:
    return _written([item for item in items if item[0] in artifact_types])


def _written(items: Items) -> bytes:
    descriptors = b", ".join(written for _, written in items)
    return _HEAD + descriptors + b"]}"


def _descriptors(document: dict[str, Any]) -> list[dict[str, Any]]:
    manifests = document.get("manifests") or []
    if not isinstance(manifests, list) or not all(map(_is_descriptor, manifests)):
        raise UpstreamMisbehaved("upstream's list of referrers is not understood")
    return manifests


def _is_descriptor(item: object) -> bool:
    """Whether an item has the fields of every descriptor (image-spec, descriptor.md)."""
    if not isinstance(item, dict):
        return False
    digest, media_type, size = (item.get(key) for key in ("digest", "mediaType", "size"))
    try:
        Digest.parse(digest if isinstance(digest, str) else "")
    except DigestInvalid:
        return False
    return isinstance(media_type, str) and type(size) is int and size >= 0
