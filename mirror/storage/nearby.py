"""The graph near some content: its parents and images, without a snapshot of the catalogue.

All walks are for a thread. They ask the catalogue for one repository's manifests at a time, so that
no step blocks other threads for long, and look at children in the interpreter's own set operations:
a walk past 100,000 manifests takes a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from collections.abc import Set as AbstractSet

from mirror.oci import media
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.storage.catalog import Catalog
from mirror.storage.graph import View


def all_manifests(catalog: Catalog) -> Iterator[Digest]:
    """Yield the stored manifests, each once for every repository that it is linked to."""
    for repository in (None, *catalog.repositories()):
        yield from catalog.holdings.manifests(repository)


def untagged(catalog: Catalog, repository: Repository, tagged: Collection[Digest]) -> set[Digest]:
    """Return a repository's manifests that neither its `tagged` ones nor others of it lead to."""
    linked = set(catalog.holdings.manifests(repository))
    inner: set[Digest] = set()
    seen: set[Digest] = set()
    ahead = [*linked, *tagged]
    inner.update(linked.intersection(tagged))
    while ahead:
        digest = ahead.pop()
        entry = catalog.get(digest)
        if entry is None or not entry.children or digest in seen:
            continue
        seen.add(digest)
        if entry.media_type in media.INDEXES:
            inner.update(linked.intersection(entry.children))
            ahead.extend(entry.children)
        elif not linked.isdisjoint(entry.children):
            found = linked.intersection(entry.children)
            inner.update(found)
    linked -= inner
    return linked


def needed_elsewhere(catalog: Catalog, content: AbstractSet[Digest]) -> set[Digest]:
    """Return the digests among `content` that a stored manifest references which is not in it."""
    alone = set(content)
    for digest in all_manifests(catalog):
        entry = catalog.get(digest)
        if entry is None or alone.isdisjoint(entry.children) or digest in content:
            continue
        alone.difference_update(entry.children)
    return {digest for digest in content if digest not in alone}


def view_around(catalog: Catalog, content: AbstractSet[Digest]) -> View:
    """Return a view of `content`, and of all manifests that lead to any of it."""
    above, found = set(content), set(content)
    while found:
        below, found = found, set()
        for digest in all_manifests(catalog):
            entry = catalog.get(digest)
            if entry is not None and digest not in above and not below.isdisjoint(entry.children):
                found.add(digest)
        above |= found
    parts: tuple[list[Digest], list[Digest]] = ([], [])
    for digest in above:
        entry = catalog.get(digest)
        if entry is not None:
            parts[entry.media_type is None].append(digest)
    return View(*parts, catalog.get)
