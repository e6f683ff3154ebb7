"""What is kept and where it belongs, in memory: pure bookkeeping, least recently used first.

What a manifest costs here to enter and to remove does not depend on how much it points at.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import chain
from types import MappingProxyType

from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.store.graph import View

_MANY = 8
# Children that are known of all manifests together, at some 150 bytes of memory each: those of
# 100,000 images. Of a manifest whose children are not known, they go when they are used least.
_MOST_CHILDREN = 1_000_000
_SHARE = 64  # parts of what is left of them; one is what a manifest may have
_MOST_PASSED = 10_000  # spared ones that are passed over for one that is not
_BLOCK = 4096  # bytes; what a file takes is rounded up to this


_NO_TYPES: Mapping[str, str] = MappingProxyType({})


def charged(size: int) -> int:
    """Return the bytes that a file of `size` bytes takes on a disk."""
    return -(-size // _BLOCK) * _BLOCK


def _compact(repositories: tuple[Repository, ...]) -> Collection[Repository]:
    """Return what takes little room, or is looked through fast where there are many."""
    return repositories if len(repositories) < _MANY else frozenset(repositories)


class Entry:
    """One kept blob or manifest. `size` in bytes; `used_at` in seconds since the epoch.

    `media_type` is what the upstream that brought a manifest calls it, `types` what others call it
    that say otherwise: a digest proves bytes, and no type.

    `changed_at` is when its file was last written, in nanoseconds since the epoch, as of when it
    was proven last; None if that was before anyone took note.
    """

    __slots__ = (
        "changed_at",
        "children",
        "links",
        "media_type",
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
        self.changed_at = changed_at
        self.types: Mapping[str, str] = _NO_TYPES
        self.links: Collection[Repository] = ()
        self.children: tuple[Digest, ...] = ()
        self.readers = 0

    def type_for(self, upstream: str) -> str | None:
        """Return what an upstream calls this; None for a blob."""
        return self.types.get(upstream, self.media_type)


class Catalogue:
    """All that is kept, by digest, in the order of its last use; manifests apart from blobs.

    A manifest is small and costs a counted pull: blobs go before it.
    """

    def __init__(self) -> None:
        self._blobs: OrderedDict[Digest, Entry] = OrderedDict()
        self._manifests: OrderedDict[Digest, Entry] = OrderedDict()
        self._children = 0  # of all manifests
        self._holdings: dict[Repository, set[Digest]] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._blobs) + len(self._manifests)

    def __iter__(self) -> Iterator[Digest]:
        return chain(self._blobs, self._manifests)

    def __repr__(self) -> str:
        return f"<Catalogue: {len(self)} kept, {self.bytes} bytes>"

    def view(self) -> View:
        """Return what is kept now, to be looked through on a thread while it changes."""
        return View(list(self._manifests), list(self._blobs), self.get)

    def get(self, digest: Digest) -> Entry | None:
        """Return what is kept under a digest."""
        return self._manifests.get(digest) or self._blobs.get(digest)

    def touch(self, digest: Digest) -> None:
        """Make this the most recently used."""
        (self._manifests if digest in self._manifests else self._blobs).move_to_end(digest)

    def add(self, digest: Digest, entry: Entry) -> None:
        """Take in a new entry as the most recently used."""
        (self._manifests if entry.media_type else self._blobs)[digest] = entry
        self.bytes += charged(entry.size)
        for repository in entry.links:
            self._holdings.setdefault(repository, set()).add(digest)
        self._children += len(entry.children)

    def put_back(self, digest: Digest, entry: Entry) -> None:
        """Take an entry in again that was about to be evicted: it stays the first to go."""
        self.add(digest, entry)
        kept = self._manifests if digest in self._manifests else self._blobs
        kept.move_to_end(digest, last=False)

    def remove(self, digest: Digest) -> Entry | None:
        """Forget an entry and what it pointed at."""
        entry = self._manifests.pop(digest, None) or self._blobs.pop(digest, None)
        if entry is not None:
            self.bytes -= charged(entry.size)
            for repository in entry.links:
                self._give_up(digest, repository)
            self._children -= len(entry.children)
        return entry

    def describe(
        self,
        digest: Digest,
        media_type: str,
        children: tuple[Digest, ...],
        upstream: str | None = None,
    ) -> None:
        """Note that a kept file is a manifest, and what it points at, unless that is too much.

        Its type is the `upstream`'s alone where another was there before.

        A manifest may have a sixty-fourth of the children that there is room for: as it gets
        scarce, those with the most go without first.
        """
        entry = self._blobs.pop(digest, None) or self._manifests[digest]
        self._manifests[digest] = entry
        if entry.media_type is None or upstream is None:
            entry.media_type = media_type
        elif media_type != entry.type_for(upstream):
            entry.types = {**entry.types, upstream: media_type}
        if not entry.children and len(children) <= (_MOST_CHILDREN - self._children) // _SHARE:
            entry.children = children
            self._children += len(children)

    def link(self, digest: Digest, repository: Repository) -> bool:
        """Note that a repository holds this; False if that was known or it is not kept."""
        entry = self.get(digest)
        if entry is None or repository in entry.links:
            return False
        entry.links = _compact((*entry.links, repository))
        self._holdings.setdefault(repository, set()).add(digest)
        return True

    def belongs(self, digest: Digest, repository: Repository) -> bool:
        """Whether the repository was seen to hold this: it came from there, or upstream said so.

        That a manifest points at it proves nothing: anybody may write a digest into one.
        """
        entry = self.get(digest)
        return entry is not None and repository in entry.links

    def within(self, digest: Digest, upstream: str, *, alone: bool = False) -> bool:
        """Whether any repository of this upstream was seen to hold this.

        With `alone` there is no other upstream, so that what is of nobody, its row lost, is of it.
        """
        entry = self.get(digest)
        if entry is None:
            return False
        if alone and not entry.links:
            return True
        return any(link.upstream == upstream for link in entry.links)

    def unlink(self, digest: Digest, repository: Repository) -> bool:
        """Note that a repository holds this no more by itself; False if it did not."""
        entry = self.get(digest)
        if entry is None or repository not in entry.links:
            return False
        entry.links = _compact(tuple(link for link in entry.links if link != repository))
        self._give_up(digest, repository)
        return True

    def _give_up(self, digest: Digest, repository: Repository) -> None:
        self._holdings[repository].discard(digest)
        if not self._holdings[repository]:
            del self._holdings[repository]

    def holds(self, repository: Repository) -> bool:
        """Whether anything is kept that the repository was seen to hold."""
        return repository in self._holdings

    def repositories(self) -> list[Repository]:
        """Return the repositories that were seen to hold something that is kept."""
        return list(self._holdings)

    def any_of(self, repository: Repository, but: str | None = None) -> Digest | None:
        """Return something at random that the repository was seen to hold, a manifest if any.

        Nobody who asks for things can foresee which, `but` that it is not this.
        """
        held = self._holdings.get(repository, ())
        for kept in (self._manifests, self._blobs):
            found = [digest for digest in held if digest in kept and digest != but]
            if found:
                return secrets.choice(found)
        return None

    def manifests(self) -> Iterator[Digest]:
        """Return the kept manifests."""
        return iter(self._manifests)

    def upstreams(self) -> set[str]:
        """Return the upstreams of which anything is kept."""
        return {repository.upstream for repository in list(self._holdings)}

    def victims(
        self, wanted: int, spared: Callable[[Digest], bool] = lambda _: False
    ) -> list[Digest] | None:
        """Return what to evict so that `wanted` bytes come free; None if that cannot be.

        What is being read is passed over: its bytes would stay on the disk until the reader ends.
        So is what is `spared`, but not for ever: each look takes a microsecond of the event loop.
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
