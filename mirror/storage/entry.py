"""The entry of the catalogue: one stored blob or manifest, with its links."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

from mirror.oci.digest import Digest
from mirror.oci.names import Repository

_NO_TYPES: Mapping[str, str] = MappingProxyType({})


class Entry:
    """A stored blob or manifest. `size` in bytes; `used_at` in seconds since the epoch.

    `media_type` is the type given by the upstream that a manifest was fetched from; `types` are the
    types of upstreams that differ: a digest proves bytes, not a type. `changed_at` is the file's
    modification time when it was last proven, in nanoseconds since the epoch; None if not recorded.
    `noted_at` is `used_at` as the index has it.
    """

    __slots__ = (
        "changed_at",
        "children",
        "links",
        "media_type",
        "noted_at",
        "readers",
        "size",
        "types",
        "used_at",
    )

    def __init__(
        self, size: int, media_type: str | None, used_at: int, changed_at: int | None = None
    ) -> None:
        self.size = size
        self.media_type = media_type
        self.used_at = used_at
        self.noted_at = used_at
        self.changed_at = changed_at
        self.types: Mapping[str, str] = _NO_TYPES
        self.links: Collection[Repository] = ()
        self.children: tuple[Digest, ...] = ()
        self.readers = 0

    def type_for(self, upstream: str) -> str | None:
        """Return an upstream's media type for this manifest; None for a blob."""
        return self.types.get(upstream, self.media_type)
