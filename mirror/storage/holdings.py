"""Holdings: the stored digests that are linked to each repository, and the manifests among them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TypeVar

from mirror.oci.digest import Digest
from mirror.oci.names import Repository

K = TypeVar("K")


class Holdings:
    """The linked digests of each repository.

    A list that a method returns is a copy made in one step of the interpreter, so a thread may ask
    for it while the event loop adds and removes.
    """

    def __init__(self) -> None:
        self._digests: dict[Repository, set[Digest]] = {}
        self._manifests: dict[Repository | None, set[Digest]] = {}  # None: without a repository

    def __contains__(self, repository: Repository) -> bool:
        return repository in self._digests

    def __repr__(self) -> str:
        return f"<Holdings of {len(self._digests)} repositories>"

    def repositories(self) -> list[Repository]:
        """Return the repositories with linked content."""
        return list(self._digests)

    def digests(self, repository: Repository) -> list[Digest]:
        """Return the digests that are linked to a repository."""
        return list(self._digests.get(repository, ()))

    def manifests(self, repository: Repository | None) -> list[Digest]:
        """Return the manifests that are linked to a repository; None means: to no repository."""
        return list(self._manifests.get(repository, ()))

    def add(self, digest: Digest, links: Collection[Repository], *, manifest: bool) -> None:
        """Add new content, with all its links."""
        for repository in links:
            self._digests.setdefault(repository, set()).add(digest)
        if manifest:
            self.describe(digest, links)

    def describe(self, digest: Digest, links: Collection[Repository]) -> None:
        """Record that a digest with these links is a manifest."""
        for repository in links or (None,):
            self._manifests.setdefault(repository, set()).add(digest)

    def link(self, digest: Digest, repository: Repository, *, manifest: bool) -> None:
        """Add a link of stored content."""
        self._digests.setdefault(repository, set()).add(digest)
        if manifest:
            self._manifests.setdefault(repository, set()).add(digest)
            _discard(self._manifests, None, digest)

    def unlink(
        self, digest: Digest, repository: Repository, left: Iterable[Repository], *, manifest: bool
    ) -> None:
        """Remove a link of stored content, which has the `left` ones."""
        _discard(self._digests, repository, digest)
        _discard(self._manifests, repository, digest)
        if manifest and not left:
            self.describe(digest, ())

    def remove(self, digest: Digest, links: Collection[Repository]) -> None:
        """Remove content, with all its links."""
        for repository in links:
            _discard(self._digests, repository, digest)
        for each in links or (None,):
            _discard(self._manifests, each, digest)


def _discard(held: dict[K, set[Digest]], repository: K, digest: Digest) -> None:
    digests = held.get(repository)
    if digests is not None:
        digests.discard(digest)
        if not digests:
            del held[repository]
