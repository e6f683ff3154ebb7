"""Usage: the use of the disk, by repository and image. Pure arithmetic."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import chain

from mirror.admin.messages import ImageUsage, RepositoryUsage, Usage
from mirror.content.manifests.tags import TagKey, Tags
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.storage.accounting import Taken
from mirror.storage.catalog import charged
from mirror.storage.graph import View
from mirror.storage.store import Store
from mirror.util.gc_pause import gc_paused

_Tags = list[tuple[TagKey, Digest]]
_Roots = dict[tuple[Repository, str], Digest]  # by repository and tag, or digest where untagged


async def measure(store: Store, tags: Tags) -> Usage:
    """Measure the use of the disk, on a thread: a large cache takes a second."""
    known = tags.known()
    return await store.run_read(
        gc_paused()(_measure),
        store.catalog.view(),
        known,
        store.accounting.taken(),
        store.accounting.max_size,
    )


def _measure(view: View, known: Iterable[tuple[TagKey, Digest]], taken: Taken, limit: int) -> Usage:
    holders = view.holders()
    sizes = {digest: _size(view, digest) for digest in holders}
    kept = sum(sizes.values())  # content is added and removed meanwhile
    images = _images(view, _roots(view, list(known), holders))
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
        used=taken.all - taken.kept + kept,
        kept=kept,
        partial=taken.partial,
        promised=taken.promised,
        index=taken.index,
        leaving=taken.leaving,
        quarantine=taken.quarantine,
        shared=sum(sizes[digest] for digest, where in holders.items() if len(where) > 1),
        unclaimed=sum(sizes[digest] for digest, where in holders.items() if not where),
        repositories=tuple(sorted(rows, key=lambda row: (-row.bytes, row.repository))),
    )


def _size(view: View, digest: Digest) -> int:
    entry = view.get(digest)
    return charged(entry.size) if entry is not None else 0


def _roots(view: View, tags: _Tags, holders: dict[Digest, frozenset[Repository]]) -> _Roots:
    """Return the images: tags, and manifests that neither a tag nor a manifest leads to."""
    roots: _Roots = {}
    parents = view.parents()
    reached: dict[Repository, list[Digest]] = defaultdict(list)
    for (repository, tag), digest in tags:
        roots[repository, tag] = digest
        reached[repository].append(digest)
    tagged = {repository: view.reach(digests) for repository, digests in reached.items()}
    for digest, repositories in holders.items():
        entry = view.get(digest)
        if entry is None or entry.media_type is None:
            continue
        for repository in repositories:
            inner = any(repository in holders.get(parent, ()) for parent in parents.get(digest, ()))
            if not inner and digest not in tagged.get(repository, ()):
                roots[repository, digest] = digest
    return roots


def _images(view: View, roots: _Roots) -> dict[Repository, list[ImageUsage]]:
    """Measure each image, and the part of it that no other image needs.

    The content of each image is found twice: holding it for all at once takes a gigabyte.
    """
    needed = Counter(chain.from_iterable(view.reach([digest]) for digest in roots.values()))
    images: dict[Repository, list[ImageUsage]] = defaultdict(list)
    for (repository, reference), digest in roots.items():
        part = view.reach([digest])
        alone = (each for each in part if needed[each] == 1)
        images[repository].append(
            ImageUsage(reference, digest, _sum(view, part), _sum(view, alone))
        )
    return images


def _sum(view: View, digests: Iterable[Digest]) -> int:
    return sum(_size(view, digest) for digest in digests)
