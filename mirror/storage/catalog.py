"""The catalogue: stored content and its links, in memory, least recently used first.

Adding or removing a manifest costs O(1), however many children it has.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from itertools import chain

from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.storage.entry import Entry
from mirror.storage.graph import View
from mirror.storage.holdings import Holdings

_MANY = 8
# Children recorded for all manifests together, at some 150 bytes of memory each: those of 100,000
# images. Children without a recorded parent are evicted by their own last use.
_MOST_CHILDREN = 1_000_000
_SHARE = 64  # a manifest may take 1/64 of the remaining room for children
_MOST_PASSED = 10_000  # protected entries skipped in one search for victims
_BLOCK = 4096  # bytes; the disk space of a file is rounded up to this


def charged(size: int) -> int:
    """Return the bytes that a file of `size` bytes occupies on a disk."""
    return -(-size // _BLOCK) * _BLOCK


def _compact(repositories: tuple[Repository, ...]) -> Collection[Repository]:
    """Return a tuple, which is small, or for many items a set, which is searched fast."""
    return repositories if len(repositories) < _MANY else frozenset(repositories)


def _with(links: Collection[Repository], repository: Repository) -> Collection[Repository]:
    if isinstance(links, frozenset):
        return links | {repository}  # hashes nothing again
    return _compact((*links, repository))


class Catalog:
    """All stored content by digest, in order of last use; manifests separate from blobs.

    A manifest is small and costs a counted pull, so blobs are evicted first. Pinned content is
    apart from both, so that no search for victims meets it, up to `most_pinned` bytes: pinned
    content beyond these may be evicted.
    """

    def __init__(self) -> None:
        self._blobs: OrderedDict[Digest, Entry] = OrderedDict()
        self._manifests: OrderedDict[Digest, Entry] = OrderedDict()
        self._pinned: dict[Digest, Entry] = {}
        self._pins: dict[Digest, None] = {}  # stored or not
        self.most_pinned = 0
        self.pinned_bytes = 0
        self.pins_refused = 0  # times that pinned content did not fit
        self._children = 0  # of all manifests
        self.holdings = Holdings()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._blobs) + len(self._manifests) + len(self._pinned)

    def __iter__(self) -> Iterator[Digest]:
        return chain(self._blobs, self._manifests, self._pinned)

    def __repr__(self) -> str:
        return f"<Catalog: {len(self)} kept, {self.bytes} bytes>"

    def view(self) -> View:
        """Return a snapshot that a thread can walk while the catalogue changes."""
        pinned: tuple[list[Digest], list[Digest]] = ([], [])
        for digest, entry in self._pinned.items():
            pinned[entry.media_type is None].append(digest)
        manifests, blobs = pinned
        return View([*self._manifests, *manifests], [*self._blobs, *blobs], self.get)

    def get(self, digest: Digest) -> Entry | None:
        """Return the entry of a digest; None if it is not stored."""
        entry = self._manifests.get(digest) or self._blobs.get(digest) or self._pinned.get(digest)
        if entry is None:  # to a thread, an entry that is moved meanwhile may seem to be nowhere
            return self._blobs.get(digest) or self._manifests.get(digest)
        return entry

    def touch(self, digest: Digest) -> None:
        """Make an entry the most recently used."""
        if digest in self._manifests:
            self._manifests.move_to_end(digest)
        elif digest not in self._pinned:
            self._blobs.move_to_end(digest)

    def add(self, digest: Digest, entry: Entry) -> None:
        """Add a new entry as the most recently used."""
        self._order(entry)[digest] = entry
        if digest in self._pins:
            self._set_apart(digest)
        self.bytes += charged(entry.size)
        self.holdings.add(digest, entry.links, manifest=entry.media_type is not None)
        self._children += len(entry.children)

    def _order(self, entry: Entry) -> OrderedDict[Digest, Entry]:
        return self._manifests if entry.media_type else self._blobs

    def put_back(self, digest: Digest, entry: Entry) -> None:
        """Add an entry that could not be evicted; it remains the first to evict."""
        self.add(digest, entry)
        if digest not in self._pinned:
            self._order(entry).move_to_end(digest, last=False)

    def remove(self, digest: Digest) -> Entry | None:
        """Remove an entry, with its links and children."""
        entry = self._manifests.pop(digest, None) or self._blobs.pop(digest, None)
        if entry is None and (entry := self._pinned.pop(digest, None)) is not None:
            self.pinned_bytes -= charged(entry.size)
        if entry is not None:
            self.bytes -= charged(entry.size)
            self.holdings.remove(digest, entry.links)
            self._children -= len(entry.children)
        return entry

    def describe(
        self,
        digest: Digest,
        media_type: str,
        children: tuple[Digest, ...],
        upstream: str | None = None,
    ) -> None:
        """Record that a stored file is a manifest, and its children, unless they are too many.

        If another upstream gave a type before, the new type is recorded for `upstream` only. A
        manifest may take a sixty-fourth of the remaining room for children: as room gets scarce,
        the manifests with the most children are the first to go without.
        """
        entry = self._blobs.pop(digest, None) or self._manifests.get(digest)
        if entry is None:
            entry = self._pinned[digest]
        else:
            self._manifests[digest] = entry
        if entry.media_type is None or upstream is None:
            entry.media_type = media_type
            self.holdings.describe(digest, entry.links)
        elif media_type != entry.type_for(upstream):
            entry.types = {**entry.types, upstream: media_type}
        if not entry.children and len(children) <= (_MOST_CHILDREN - self._children) // _SHARE:
            entry.children = children
            self._children += len(children)

    def link(self, digest: Digest, repository: Repository) -> bool:
        """Record that a repository contains a digest; False if already recorded or not stored."""
        entry = self.get(digest)
        if entry is None or repository in entry.links:
            return False
        entry.links = _with(entry.links, repository)
        self.holdings.link(digest, repository, manifest=entry.media_type is not None)
        return True

    def belongs(self, digest: Digest, repository: Repository) -> bool:
        """Whether the digest is linked to the repository: fetched there, or confirmed by upstream.

        A reference in a manifest is no proof: any author can write any digest into a manifest.
        """
        entry = self.get(digest)
        return entry is not None and repository in entry.links

    def within(self, digest: Digest, upstream: str, *, alone: bool = False) -> bool:
        """Whether the digest is linked to any repository of an upstream.

        With `alone`, only one upstream is configured: an entry that lost its links belongs to it.
        """
        entry = self.get(digest)
        if entry is None:
            return False
        if alone and not entry.links:
            return True
        return any(link.upstream == upstream for link in entry.links)

    def unlink(self, digest: Digest, repository: Repository) -> bool:
        """Remove the link of a digest to a repository; False if there was none."""
        entry = self.get(digest)
        if entry is None or repository not in entry.links:
            return False
        entry.links = _compact(tuple(link for link in entry.links if link != repository))
        manifest = entry.media_type is not None
        self.holdings.unlink(digest, repository, entry.links, manifest=manifest)
        return True

    def holds(self, repository: Repository) -> bool:
        """Whether any stored digest is linked to the repository."""
        return repository in self.holdings

    def repositories(self) -> list[Repository]:
        """Return the repositories with links to stored content."""
        return self.holdings.repositories()

    def any_of(self, repository: Repository, but: str | None = None) -> Digest | None:
        """Return a random digest linked to the repository, a manifest if possible, never `but`.

        Clients can foresee no more than that it is not `but`.
        """
        for held in (self.holdings.manifests(repository), self.holdings.digests(repository)):
            found = [digest for digest in held if digest != but]
            if found:
                return secrets.choice(found)
        return None

    @property
    def manifest_count(self) -> int:
        """The number of stored manifests."""
        pinned = sum(1 for entry in self._pinned.values() if entry.media_type)
        return len(self._manifests) + pinned

    def manifests(self) -> Iterator[Digest]:
        """Return the digests of the stored manifests."""
        pinned = (digest for digest, entry in self._pinned.items() if entry.media_type)
        return chain(self._manifests, pinned)

    def upstreams(self) -> set[str]:
        """Return the upstreams with links to stored content."""
        return {repository.upstream for repository in self.holdings.repositories()}

    # Pins

    def pin(self, digest: Digest) -> None:
        """Keep a digest from eviction from now on, whether it is stored already or not."""
        self._pins[digest] = None
        if digest not in self._pinned and self.get(digest) is not None:
            self._set_apart(digest)

    def unpin(self, digest: Digest) -> None:
        """Let a digest be evicted again, as if it had just been used."""
        self._pins.pop(digest, None)
        self._expose(digest)

    def is_pinned(self, digest: Digest) -> bool:
        """Whether a stored digest is kept from eviction."""
        return digest in self._pinned

    def wants_pinned(self, digest: Digest) -> bool:
        """Whether a digest, stored or not, is to be kept from eviction."""
        return digest in self._pins

    def bound_pinned(self, most: int) -> None:
        """Change `most_pinned`; content that was pinned last may be evicted first."""
        self.most_pinned = most
        while self.pinned_bytes > most:
            self._expose(next(reversed(self._pinned)))
        for digest in self._pins:
            if digest not in self._pinned and self.get(digest) is not None:
                self._set_apart(digest)

    def _set_apart(self, digest: Digest) -> None:
        """Take an entry out of the order of eviction, if the pinned bytes allow it."""
        entry = self._manifests.get(digest) or self._blobs[digest]
        if self.pinned_bytes + charged(entry.size) <= self.most_pinned:
            self._pinned[digest] = entry
            del self._order(entry)[digest]
            self.pinned_bytes += charged(entry.size)
        else:
            self.pins_refused += 1

    def _expose(self, digest: Digest) -> None:
        entry = self._pinned.get(digest)
        if entry is not None:
            self._order(entry)[digest] = entry
            del self._pinned[digest]
            self.pinned_bytes -= charged(entry.size)

    def victims(
        self, wanted: int, spared: Callable[[Digest], bool] = lambda _: False
    ) -> list[Digest] | None:
        """Return the digests to evict so that `wanted` bytes are freed; None if impossible.

        Entries being read are skipped: their bytes stay on the disk until the reader ends. `spared`
        entries are skipped, too, but only 10,000 of them: each check takes a microsecond of the
        event loop.
        """
        if wanted <= 0:
            return []
        chosen: list[Digest] = []
        passed = 0
        for digest, entry in chain(self._blobs.items(), self._manifests.items()):
            if entry.readers:
                continue
            if spared(digest):
                passed += 1
                if passed > _MOST_PASSED:
                    break
                continue
            chosen.append(digest)
            wanted -= charged(entry.size)
            if wanted <= 0:
                return chosen
        return None
