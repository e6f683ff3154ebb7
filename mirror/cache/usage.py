"""Usage: what takes the space, by repository and image. Pure reckoning."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from mirror.cache.records import ImageUsage, RepositoryUsage, Usage
from mirror.cache.tags import TagKey, Tags
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.store.books import Taken
from mirror.store.catalogue import Catalogue, charged
from mirror.store.store import Store

_Tags = list[tuple[TagKey, Digest]]
_Roots = dict[tuple[Repository, str], Digest]  # by repository and tag, or digest where untagged


async def measure(store: Store, tags: Tags) -> Usage:
    """Reckon what takes the space, on a thread: a large cache takes a second."""
    known = list(tags.known())
    return await store.run_read(
        _measure, store.catalogue.copy(), known, store.books.taken(), store.books.limit
    )


def _measure(catalogue: Catalogue, tags: _Tags, taken: Taken, limit: int) -> Usage:
    holders = holders_of(catalogue)
    sizes = {digest: _size(catalogue, digest) for digest in holders}
    images = _images(catalogue, _roots(catalogue, tags, holders))
    held: dict[Repository, list[Digest]] = defaultdict(list, {name: [] for name in images})
    for digest, repositories in holders.items():
        for repository in repositories:
            held[repository].append(digest)
    rows = [
        RepositoryUsage(
            str(repository),
            sum(sizes[digest] for digest in digests),
            sum(sizes[digest] for digest in digests if len(holders[digest]) == 1),
            tuple(sorted(images[repository], key=lambda image: (-image.bytes, image.reference))),
        )
        for repository, digests in held.items()
    ]
    return Usage(
        limit=limit,
        used=taken.all,
        kept=taken.kept,
        partial=taken.partial,
        promised=taken.promised,
        index=taken.index,
        leaving=taken.leaving,
        quarantine=taken.quarantine,
        shared=sum(sizes[digest] for digest, where in holders.items() if len(where) > 1),
        unclaimed=sum(sizes[digest] for digest, where in holders.items() if not where),
        repositories=tuple(sorted(rows, key=lambda row: (-row.bytes, row.repository))),
    )


def holders_of(catalogue: Catalogue) -> dict[Digest, frozenset[Repository]]:
    """Return the repositories that hold each kept digest, themselves or in a manifest of theirs."""
    found: dict[Digest, frozenset[Repository]] = {}

    def holders(digest: Digest) -> frozenset[Repository]:
        if digest not in found:  # digests cannot form a circle, so this ends
            entry = catalogue.get(digest)
            links = frozenset(entry.links if entry is not None else ())
            found[digest] = links.union(*map(holders, catalogue.parents(digest)))
        return found[digest]

    for digest in catalogue:
        holders(digest)
    return found


def _size(catalogue: Catalogue, digest: Digest) -> int:
    entry = catalogue.get(digest)
    return charged(entry.size) if entry is not None else 0


def _roots(
    catalogue: Catalogue, tags: _Tags, holders: dict[Digest, frozenset[Repository]]
) -> _Roots:
    """Return the images: tags, and manifests that neither a tag nor a manifest leads to."""
    roots: _Roots = {}
    reached: dict[Repository, list[Digest]] = defaultdict(list)
    for (repository, tag), digest in tags:
        roots[repository, tag] = digest
        reached[repository].append(digest)
    tagged = {repository: catalogue.reach(digests) for repository, digests in reached.items()}
    for digest, repositories in holders.items():
        entry = catalogue.get(digest)
        if entry is None or entry.media_type is None:
            continue
        for repository in repositories:
            inner = any(repository in holders[parent] for parent in catalogue.parents(digest))
            if not inner and digest not in tagged.get(repository, ()):
                roots[repository, digest] = digest
    return roots


def _images(catalogue: Catalogue, roots: _Roots) -> dict[Repository, list[ImageUsage]]:
    """Reckon each image, and what of it no other needs."""
    parts = {root: catalogue.reach([digest]) for root, digest in roots.items()}
    needed = Counter(digest for part in parts.values() for digest in part)
    images: dict[Repository, list[ImageUsage]] = defaultdict(list)
    for (repository, reference), part in parts.items():
        alone = (digest for digest in part if needed[digest] == 1)
        digest = roots[repository, reference]
        images[repository].append(
            ImageUsage(reference, digest, _sum(catalogue, part), _sum(catalogue, alone))
        )
    return images


def _sum(catalogue: Catalogue, digests: Iterable[Digest]) -> int:
    return sum(_size(catalogue, digest) for digest in digests)
