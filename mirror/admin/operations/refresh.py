"""`refresh`: asks upstream about tags now."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from mirror.admin.messages import Record, Refreshed, RefreshedImage, RefreshOrder
from mirror.admin.messages.common import Reason
from mirror.admin.operations.parts import LiveParts, OperationParts
from mirror.admin.operations.targets import stored_digest, typed_image
from mirror.admin.operations.warm_bounds import NotWarmed
from mirror.admin.operations.warm_image import admit
from mirror.content.outcome import STALE_TEXTS
from mirror.oci.digest import Digest
from mirror.oci.errors import Denied, ManifestUnknown, NotAllowed, RegistryError
from mirror.oci.image_name import ImageName


async def refresh(parts: OperationParts, order: RefreshOrder) -> AsyncGenerator[Record, None]:
    """Yield the tags, asked about one after the other. Raises OrderError without a daemon."""
    live = parts.running("refresh")
    yield Refreshed(tuple([await _refresh(parts, live, each) for each in order.targets]))


async def _refresh(parts: OperationParts, live: LiveParts, text: str) -> RefreshedImage:
    try:
        image = typed_image(parts, text)
    except RegistryError as error:
        return RefreshedImage(text, "", "", False, error.message, "invalid")
    before = stored_digest(parts, image) or ""
    reason, why = await _ask(live, image)
    after = stored_digest(parts, image) or ""
    changed = reason is None and before != after
    return RefreshedImage(str(image), before, after, changed, reason, why)


async def _ask(live: LiveParts, image: ImageName) -> tuple[str, Reason] | tuple[None, None]:
    """Ask upstream; returns the reason for a failure, and its kind."""
    if isinstance(image.reference, Digest):
        return "a digest never changes: name a tag", "invalid"
    try:
        await admit(live, image)
        found = await live.manifests.refresh(image.repository, image.reference)
    except NotWarmed as error:
        return str(error), "invalid"
    except RegistryError as error:
        return error.message, _kind(error)
    if found.why is not None:
        return f"{STALE_TEXTS[found.why]}: it stays as it was", "unavailable"
    return None, None


def _kind(error: RegistryError) -> Reason:
    if isinstance(error, ManifestUnknown):
        return "unknown"
    return "refused" if isinstance(error, NotAllowed | Denied) else "unavailable"
