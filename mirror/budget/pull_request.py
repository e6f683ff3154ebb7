"""A request for a pull: the client, the manifest that it named, and the known facts about it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mirror.oci import media
from mirror.oci.digest import Digest
from mirror.oci.manifest import Descriptor
from mirror.oci.names import Reference, Repository

INDEX_COST = 2  # pulls: the index itself, and a platform's manifest


@dataclass(frozen=True, slots=True)
class PullRequest:
    """A client's request for a manifest, which may need a pull.

    `reference` is the client's. `digest` is that of the manifest, once a HEAD or a tag named it.
    `cost` is in pulls: two for an index, because its platform's manifest is requested next.
    `stale_age` is for how many seconds upstream has not confirmed the content that the client could
    have instead; None if there is none.
    """

    repository: Repository
    reference: Reference
    client: str
    digest: Digest | None = None
    cost: int = 1
    stale_age: float | None = None

    @property
    def target(self) -> Reference:
        """The reference that upstream is asked for: the digest if it is known."""
        return self.digest or self.reference

    def resolved(self, found: Descriptor) -> PullRequest:
        """Return this request for a manifest that is described: its digest and cost are known."""
        cost = INDEX_COST if found.media_type in media.INDEXES else 1
        return replace(self, digest=found.digest, cost=cost)

    def as_index(self) -> PullRequest:
        """Return this request as if its manifest were an index."""
        return replace(self, cost=INDEX_COST)
