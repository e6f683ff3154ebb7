"""The platforms that clients request: those of the images that are stored.

A platform's manifest is stored because a client requested it. So the store remembers the requests,
over restarts, and a request pays nothing for that.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice

from mirror.admin.operations.parts import OperationParts
from mirror.admin.operations.warm_documents import is_index, read_children
from mirror.oci import strict_json
from mirror.oci.digest import Digest
from mirror.oci.platform import Platform
from mirror.storage.catalog import Catalog
from mirror.storage.errors import Unavailable
from mirror.storage.graph import View

_READ = 256  # indexes, the last used ones: some megabytes
_RARE = 0.05  # of these; a platform of fewer is a stray request


async def requested_platforms(parts: OperationParts) -> list[Platform]:
    """Return the platforms of stored images, the most frequent first; rare ones are left out."""
    catalog = parts.store.catalog
    indexes = await parts.store.run_read(_last_indexes, catalog.view())
    counts: Counter[Platform] = Counter()
    seen = 0
    for digest in indexes:
        platforms = await _stored_platforms(parts, catalog, digest)
        counts.update(platforms)
        seen += bool(platforms)
    least = max(1.0, _RARE * seen)
    return [platform for platform, count in counts.most_common() if count >= least]


def _last_indexes(view: View) -> list[Digest]:
    """Return the indexes that were used last; for a thread."""
    newest_first = (
        digest
        for digest in reversed(view.manifests)
        if (entry := view.get(digest)) is not None and is_index(entry.media_type or "")
    )
    return list(islice(newest_first, _READ))


async def _stored_platforms(
    parts: OperationParts, catalog: Catalog, digest: Digest
) -> set[Platform]:
    """Return the stored platforms of an index."""
    try:
        body = await parts.store.read(digest)
    except Unavailable:
        return set()
    children = await strict_json.on_thread(read_children, body or b"")
    return {
        child.platform
        for child in children
        if child.platform is not None and catalog.get(child.digest) is not None
    }
