"""`export`: hands out the stored content of images, manifests first."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import ExitStack

from mirror.admin.messages import (
    Content,
    Exported,
    ExportedImage,
    ExportOrder,
    NotStored,
    OrderError,
    OrderInvalid,
    Piece,
    Progress,
    Record,
)
from mirror.admin.operations.image_tree import MOST_TOLD, ImageTree, StoredTrees
from mirror.admin.operations.parts import OperationParts
from mirror.oci.digest import Digest
from mirror.oci.errors import RegistryError, shown
from mirror.oci.image_name import ImageName, parse_image
from mirror.oci.names import Repository, Tag
from mirror.oci.platform import parse_platform
from mirror.storage.errors import StorageError
from mirror.storage.metadata.rows import TagKey
from mirror.storage.store import Store
from mirror.util.cooperative import cooperatively

_PIECE = 1024 * 1024  # bytes
_SOME = 3  # images that a refusal names


async def export(parts: OperationParts, order: ExportOrder) -> AsyncGenerator[Record, None]:
    """Yield the content of the images, each digest once, and finally the images.

    The content is kept from eviction meanwhile. Raises OrderError, StorageError.
    """
    with ExitStack() as holds:
        images, sizes = await _gather(parts, order, holds)
        done, whole = 0, sum(sizes.values())
        for number, (digest, size) in enumerate(sizes.items()):
            yield Progress(number, len(sizes), done, whole)
            yield Content(digest, size)
            async for piece in _pieces(parts.store, digest, size):
                done += piece.length
                yield piece
                if done < whole:
                    yield Progress(number, len(sizes), done, whole)
        yield Exported(images, len(sizes), whole)


async def _gather(
    parts: OperationParts, order: ExportOrder, holds: ExitStack
) -> tuple[tuple[ExportedImage, ...], dict[Digest, int]]:
    """Find the content of the images, and hold it; raises OrderError."""
    names = await parts.store.run_read(_names, parts, order)
    platforms = _platforms(order)
    trees: dict[tuple[Repository, Digest], ImageTree] = {}  # a manifest may have many tags
    images, sizes = list[ExportedImage](), dict[Digest, int]()
    async for name in cooperatively(names, 16):
        digest = _digest(parts, name)
        if digest is None:
            reason = f"nothing of {shown(str(name))} is stored"
            images.append(ExportedImage(str(name), reason=reason))
            continue
        if (tree := trees.get((name.repository, digest))) is None:
            found = StoredTrees(parts.store, name.repository, platforms)
            tree = trees[name.repository, digest] = await found.of(digest)
            if tree.whole:
                _hold(parts.store, tree, holds, sizes)
        images.append(_image(parts.store, name, digest, tree))
    if order.all_or_none:
        _refuse_some(images)
    return tuple(images), sizes


def _refuse_some(images: list[ExportedImage]) -> None:
    """Refuse the order if an image cannot be handed out; raises NotStored, which names some."""
    wrong = [f"{each.name} is not exported: {each.reason}" for each in images if each.reason]
    if wrong:
        more = f"; and {len(wrong) - _SOME} more" if len(wrong) > _SOME else ""
        raise NotStored("; ".join(wrong[:_SOME]) + more)


def _hold(store: Store, tree: ImageTree, holds: ExitStack, sizes: dict[Digest, int]) -> None:
    """Keep an image's content from eviction; raises OrderError if some is gone."""
    for digest in tree.sizes.keys() - sizes.keys():
        if (entry := store.catalog.get(digest)) is None:
            raise OrderError(f"{digest} was removed meanwhile; try again")
        holds.callback(store.hold(entry).release)
    sizes.update(tree.sizes)


def _names(parts: OperationParts, order: ExportOrder) -> list[ImageName]:
    """Return the images that the order names, each once, for a thread; raises OrderInvalid."""
    upstreams = {*parts.budget.upstreams(), *parts.store.catalog.upstreams()}
    try:
        return list(dict.fromkeys(parse_image(text, upstreams) for text in order.images))
    except RegistryError as error:
        raise OrderInvalid(error.message) from None


def _platforms(order: ExportOrder) -> tuple[str, ...]:
    """Return the platforms in their usual form; raises OrderInvalid."""
    try:
        return tuple(str(parse_platform(text)) for text in order.platforms)
    except ValueError as error:
        raise OrderInvalid(str(error)) from None


def _image(store: Store, name: ImageName, digest: Digest, tree: ImageTree) -> ExportedImage:
    """Report an image, with the reason if it cannot be exported."""
    entry, missing = store.catalog.get(digest), tuple(tree.missing[:MOST_TOLD])
    if not tree.whole or entry is None:
        return ExportedImage(str(name), digest, missing=missing, reason=_why(missing))
    return ExportedImage(
        str(name),
        digest,
        entry.type_for(name.repository.upstream) or "",
        entry.size,
        len(tree.sizes),
        sum(tree.sizes.values()),
        tuple(tree.platforms[:MOST_TOLD]),
        missing,
    )


def _why(missing: tuple[str, ...]) -> str:
    return (
        f"not stored: {', '.join(missing[:4])}{', ...' if len(missing) > 4 else ''}; "
        "pull it through the mirror first"
    )


def _digest(parts: OperationParts, name: ImageName) -> Digest | None:
    """Return the stored manifest of an image, the previous one if the newest is not pulled yet."""
    if isinstance(name.reference, Digest):
        return name.reference
    tagged = parts.tags.peek(TagKey(name.repository, Tag(name.reference)))
    while tagged is not None:
        if parts.store.catalog.belongs(tagged.found.digest, name.repository):
            return tagged.found.digest
        tagged = tagged.before
    return None


async def _pieces(store: Store, digest: Digest, size: int) -> AsyncGenerator[Piece, None]:
    """Yield stored bytes; raises OrderError if they are not there any more, StorageError."""
    blob = await store.open(digest)
    if blob is None:
        raise OrderError(f"{digest} was removed meanwhile, or is damaged; try again")
    try:
        position = 0
        while position < size:
            data = bytes(await blob.reader.read(position, min(size, position + _PIECE)))
            if not data:
                raise OrderError(f"{digest} is damaged: it ends after {position} of {size} bytes")
            position += len(data)
            yield Piece(len(data), data)
    except StorageError:
        blob.doubt()
        raise
    finally:
        blob.close()
