"""The listing as it is defined: a walk past everything, for the fast one to be held against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import chain

from mirror.oci.digest import Digest
from mirror.oci.image_name import ImageName
from mirror.oci.names import Tag
from mirror.storage.catalog import Catalog, charged
from mirror.storage.metadata.rows import TagKey

Row = tuple[str, Digest, int, int]


def size_of(catalog: Catalog, digests: Iterable[Digest]) -> int:
    """Return the bytes on the disk that content takes."""
    entries = (catalog.get(digest) for digest in digests)
    return sum(charged(entry.size) for entry in entries if entry is not None)


def walk(catalog: Catalog, known: list[tuple[TagKey, Digest]]) -> list[Row]:
    """Return all images by name, each with its bytes and the bytes that no other image needs."""
    view = catalog.view()
    images = {
        name: digest
        for name, digest in view.images(known, view.holders()).items()
        if catalog.get(digest) is not None
    }
    needed = Counter(chain.from_iterable(view.reach([digest]) for digest in images.values()))
    rows = []
    for (repository, text), digest in images.items():
        image = ImageName(repository, text if isinstance(text, Digest) else Tag(text))
        whole = view.reach([digest])
        alone = (each for each in whole if needed[each] == 1)
        rows.append((str(image), digest, size_of(catalog, whole), size_of(catalog, alone)))
    return sorted(rows)
