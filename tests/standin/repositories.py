"""Repositories: the registry's content, and its readers."""

from dataclasses import dataclass, field

from .blobs import Blob
from .images import Document, Image, Index, make_referrers_tag


@dataclass
class Repository:
    """Tags, manifests and blobs under one name. `readers` None: public."""

    tags: dict[str, str] = field(default_factory=dict)
    manifests: dict[str, Document] = field(default_factory=dict)
    blobs: dict[str, Blob] = field(default_factory=dict)
    readers: frozenset[str] | None = None

    def keep(self, document: Document) -> None:
        """Store a document with all its content."""
        self.manifests[document.digest] = document
        if isinstance(document, Index):
            for image in document.images:
                self.keep(image)
        else:
            self.blobs |= {blob.digest: blob for blob in document.blobs}

    def find(self, reference: str) -> Document | None:
        """Return the manifest of a tag or a digest."""
        return self.manifests.get(self.tags.get(reference, reference))

    def referrers(self, digest: str) -> list[Image]:
        """Return the artifacts that refer to this digest."""
        return [
            document
            for document in self.manifests.values()
            if isinstance(document, Image) and document.subject == digest
        ]

    def readable_by(self, user: str | None) -> bool:
        """Tell whether this user (None: anonymous) may pull."""
        return self.readers is None or user in self.readers


class Repositories:
    """All repositories, by name."""

    def __init__(self) -> None:
        self._by_name: dict[str, Repository] = {}

    def get(self, name: str | None) -> Repository | None:
        """Return the repository of this name, if there is one."""
        return self._by_name.get(name or "")

    def make(self, name: str) -> Repository:
        """Return the repository of this name, a new one if need be."""
        return self._by_name.setdefault(name, Repository())

    def remove(self, name: str, digest: str | None = None) -> None:
        """Remove a repository, or one manifest or blob of it with the tags that name it."""
        if digest is None:
            self._by_name.pop(name, None)
            return
        repository = self.make(name)
        repository.manifests.pop(digest, None)
        repository.blobs.pop(digest, None)
        repository.tags = {tag: to for tag, to in repository.tags.items() if to != digest}

    def add_fallback_tags(self, name: str) -> None:
        """Tag each subject's referrers `sha256-<hex>`, as clients do without a referrers API."""
        repository = self.make(name)
        subjects = {
            document.subject
            for document in repository.manifests.values()
            if isinstance(document, Image) and document.subject
        }
        for subject in subjects:
            index = make_referrers_tag(repository.referrers(subject))
            repository.keep(index)
            repository.tags[subject.replace(":", "-")] = index.digest

    def blob(self, digest: str | None) -> Blob | None:
        """Return a blob of any repository."""
        found = (r.blobs[digest] for r in self._by_name.values() if digest in r.blobs)
        return next(found, None)

    def __repr__(self) -> str:
        return f"<Repositories: {', '.join(self._by_name)}>"
