"""`ls`: lists the stored images, a page at a time."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Iterable
from fnmatch import translate

from mirror.admin.messages import LsOrder, OrderInvalid, Record, StoredImage, StoredImages
from mirror.admin.operations.inventory import Inventory, stored_images, take_inventory
from mirror.admin.operations.parts import OperationParts
from mirror.content.manifests.tags import Tags
from mirror.oci.digest import Digest
from mirror.oci.errors import RegistryError, shown
from mirror.oci.image_name import ImageName, parse_image
from mirror.oci.names import HUB, Reference, Repository, Tag, pulled_as
from mirror.storage.graph import View
from mirror.storage.metadata.rows import TagKey
from mirror.util.gc_pause import gc_paused

_LIBRARY = "library/"


async def ls(parts: OperationParts, order: LsOrder) -> AsyncGenerator[Record, None]:
    """Yield a page of images, found on a thread. Raises OrderError."""
    listed, view, known = gc_paused()(_listed), parts.store.catalog.view(), parts.tags.known()
    pinned = frozenset(parts.store.pins.images)
    yield await parts.store.run_read(listed, view, known, parts.tags, pinned, order)


def _listed(
    view: View,
    known: Iterable[tuple[TagKey, Digest]],
    tags: Tags,
    pinned: frozenset[ImageName],
    order: LsOrder,
) -> StoredImages:
    inventory = take_inventory(view, stored_images(view, known))
    listing = _Listing(inventory, tags, pinned)
    after = None if order.after is None else _in_full(order.after, inventory)
    names = sorted(map(_full_name, _matching(inventory, order.pattern)), key=str)
    rows: Iterable[StoredImage]
    if order.sort == "name":
        rows = map(listing.row, _following(names, after))
    else:
        ordered = sorted(map(listing.row, names), key=_ORDERS[order.sort])
        rows = _after(ordered, after)
    found = list(_first(rows, order.limit))
    more = order.limit is not None and len(found) > order.limit
    page = tuple(found[: order.limit])
    return StoredImages(page, len(names), page[-1].reference if more else None)


_ORDERS: dict[str, Callable[[StoredImage], int]] = {
    "bytes": lambda image: -image.bytes,
    "used": lambda image: -image.used,
}


class _Listing:
    """Makes the rows of images."""

    def __init__(self, inventory: Inventory, tags: Tags, pinned: frozenset[ImageName]) -> None:
        self._inventory = inventory
        self._tags = tags
        self._pinned = pinned

    def row(self, image: ImageName) -> StoredImage:
        """Return the row of an image."""
        digest = self._inventory.images[image.repository, image.reference]
        size, alone = self._inventory.sizes(digest)
        entry = self._inventory.view.get(digest)
        used = 0 if entry is None else entry.used_at
        checked, pinned = self._checked(image), image in self._pinned
        return StoredImage(str(image), digest, size, alone, checked, used, pinned)

    def _checked(self, image: ImageName) -> int:
        if isinstance(image.reference, Digest):
            return 0
        tagged = self._tags.peek(TagKey(image.repository, image.reference))
        return 0 if tagged is None else self._tags.checked_at(tagged)


def _full_name(key: tuple[Repository, str]) -> ImageName:
    repository, text = key
    reference: Reference = text if isinstance(text, Digest) else Tag(text)
    return ImageName(repository, reference)


def _matching(inventory: Inventory, pattern: str | None) -> Iterable[tuple[Repository, str]]:
    """Return the images of a pattern: of names as docker writes them, in short or in full.

    The expressions of Python's fnmatch take no more steps than the product of both lengths.
    """
    if pattern is None:
        return inventory.images
    name, reference = _split(pattern)
    is_name, is_reference = (re.compile(translate(each)).match for each in (name, reference))
    return [
        (repository, each)
        for repository, each in inventory.images
        if any(map(is_name, _names(repository))) and is_reference(each)
    ]


def _split(pattern: str) -> tuple[str, str]:
    """Split a pattern into that of a repository and that of a tag or digest."""
    name, at, digest = pattern.partition("@")
    if at:
        return name, digest
    head, colon, tag = pattern.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (pattern, "*")


def _names(repository: Repository) -> Iterable[str]:
    short = pulled_as(repository, HUB)
    return {str(repository), short, short.removeprefix(_LIBRARY)}


def _following(names: list[ImageName], after: str | None) -> Iterable[ImageName]:
    """Return the images behind a name, whether or not that is still stored."""
    return [name for name in names if after is None or str(name) > after]


def _after(rows: list[StoredImage], after: str | None) -> Iterable[StoredImage]:
    if after is None:
        return rows
    for number, row in enumerate(rows, 1):
        if row.reference == after:
            return rows[number:]
    raise OrderInvalid(f"no image {shown(after)} is in this list: begin at its first page")


def _in_full(text: str, inventory: Inventory) -> str:
    upstreams = {repository.upstream for repository, _ in inventory.images}
    try:
        return str(parse_image(text, upstreams))
    except RegistryError as error:
        raise OrderInvalid(error.message) from None


def _first(rows: Iterable[StoredImage], limit: int | None) -> Iterable[StoredImage]:
    """Return a page of rows, and one more if there is one."""
    for number, row in enumerate(rows):
        if limit is not None and number > limit:
            return
        yield row
