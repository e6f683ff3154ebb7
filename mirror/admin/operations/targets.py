"""The images that an operator names, and the stored manifests that they mean."""

from __future__ import annotations

from mirror.admin.operations.parts import OperationParts
from mirror.oci.digest import Digest
from mirror.oci.image_name import ImageName, parse_image
from mirror.storage.catalog import Catalog
from mirror.storage.metadata.rows import TagKey


def typed_image(parts: OperationParts, text: str) -> ImageName:
    """Parse an image as docker does; raises NameInvalid, TagInvalid, or DigestInvalid.

    Upstreams without a dot in their name are recognised by their content, and by pinned images.
    """
    pinned = {image.repository.upstream for image in parts.store.pins.images}
    return parse_image(text, {*parts.store.catalog.upstreams(), *pinned})


def stored_digest(parts: OperationParts, image: ImageName) -> Digest | None:
    """Return the stored manifest of an image; None if there is none in its repository.

    Of a tag that has moved, it is the older one until the newer one is stored.
    """
    catalog, reference = parts.store.catalog, image.reference
    if isinstance(reference, Digest):
        return reference if _is_stored(catalog, image, reference) else None
    tagged = parts.tags.peek(TagKey(image.repository, reference))
    for each in (tagged, tagged.before) if tagged is not None else ():
        if each is not None and _is_stored(catalog, image, each.found.digest):
            return each.found.digest
    return None


def _is_stored(catalog: Catalog, image: ImageName, digest: Digest) -> bool:
    entry = catalog.get(digest)
    is_manifest = entry is not None and entry.media_type is not None
    return is_manifest and catalog.belongs(digest, image.repository)
