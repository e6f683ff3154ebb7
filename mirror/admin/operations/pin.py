"""`pin` and `unpin`: keep images from eviction, or let them be evicted again."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from mirror.admin.messages import PinChange, Pinned, PinOrder, Record, UnpinOrder
from mirror.admin.operations.parts import OperationParts
from mirror.admin.operations.targets import stored_digest, typed_image
from mirror.oci.errors import RegistryError
from mirror.storage.errors import TooManyPins
from mirror.util.cooperative import cooperatively


async def pin(parts: OperationParts, order: PinOrder) -> AsyncGenerator[Record, None]:
    """Yield the images that are pinned now; each is refused or pinned on its own."""
    yield _result(parts, [_pin(parts, each) async for each in cooperatively(order.targets, 1)])


async def unpin(parts: OperationParts, order: UnpinOrder) -> AsyncGenerator[Record, None]:
    """Yield the images that are not pinned any more."""
    changes = [_unpin(parts, each) async for each in cooperatively(order.targets, 1)]
    yield _result(parts, changes, pinned=False)


def _result(parts: OperationParts, changes: list[PinChange], *, pinned: bool = True) -> Pinned:
    catalog = parts.store.catalog
    return Pinned(tuple(changes), pinned, catalog.pinned_bytes, catalog.most_pinned)


def _pin(parts: OperationParts, text: str) -> PinChange:
    try:
        image = typed_image(parts, text)
    except RegistryError as error:
        return PinChange(text, "", 0, error.message, "invalid")
    digest = stored_digest(parts, image)
    if digest is None:
        how = "pull it first, or have it fetched by `mirror warm`"
        return PinChange(str(image), "", 0, f"nothing of it is stored: {how}", "unknown")
    try:
        parts.store.pins.pin(image, digest)
    except TooManyPins as error:
        return PinChange(str(image), digest, 0, str(error), "refused")
    return PinChange(str(image), digest, parts.store.pins.bytes(image))


def _unpin(parts: OperationParts, text: str) -> PinChange:
    try:
        image = typed_image(parts, text)
    except RegistryError as error:
        return PinChange(text, "", 0, error.message, "invalid")
    pins = parts.store.pins
    pinned = pins.images.get(image)
    if pinned is None:
        return PinChange(str(image), "", 0, "it is not pinned", "unknown")
    size = pins.bytes(image)
    pins.unpin(image)
    return PinChange(str(image), pinned.digest, size)
