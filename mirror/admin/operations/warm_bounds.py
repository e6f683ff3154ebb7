"""The bounds of one image to warm: its manifests and blobs, over all levels of its indexes."""

from __future__ import annotations

from collections.abc import Iterable

from mirror.admin.operations.warm_documents import MOST_BLOBS, Child, WantedBlob
from mirror.oci.digest import Digest

_DEEPEST = 3  # indexes within indexes
_MOST_MANIFESTS = 64  # below the first; each may cost a pull


class NotWarmed(Exception):
    """An image is not stored; the message says why."""


class Bounds:
    """The manifests and blobs that an image has so far, each once.

    An index is untrusted: it may name more than a pull limit has pulls, or the same content often.
    """

    def __init__(self) -> None:
        self._manifests: set[Digest] = set()
        self._blobs: dict[Digest, WantedBlob] = {}

    def __repr__(self) -> str:
        return f"<Bounds: {len(self._manifests)} manifests, {len(self._blobs)} blobs>"

    @property
    def blobs(self) -> list[WantedBlob]:
        """All blobs so far."""
        return list(self._blobs.values())

    def enter(self, children: Iterable[Child], depth: int) -> list[Child]:
        """Count the entries of an index in, and return the new ones; raises NotWarmed.

        This precedes the pulls for them: an image beyond the bounds costs none of these.
        """
        if depth > _DEEPEST:
            raise NotWarmed(f"its indexes are nested more than {_DEEPEST} levels deep")
        new = [child for child in children if child.digest not in self._manifests]
        if len(self._manifests) + len(new) > _MOST_MANIFESTS:
            raise NotWarmed(f"it has more than {_MOST_MANIFESTS} manifests for these platforms")
        self._manifests.update(child.digest for child in new)
        return new

    def take(self, blobs: Iterable[WantedBlob]) -> None:
        """Count the blobs of a manifest in; raises NotWarmed."""
        for blob in blobs:
            self._blobs.setdefault(blob.digest, blob)
        if len(self._blobs) > MOST_BLOBS:
            raise NotWarmed(f"it has more than {MOST_BLOBS} blobs")
