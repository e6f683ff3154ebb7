"""The images that a layout offers: the roots of its index.json, each with a full name."""

from __future__ import annotations

from mirror.admin.messages import OfferedImage, OrderInvalid
from mirror.oci.errors import RegistryError, shown
from mirror.oci.image_name import parse_image
from mirror.oci.layout import INDEX, LayoutInvalid, Root

OLD = "manifest.json"  # of `docker save` before Docker 25


def without_index(*, is_old: bool) -> LayoutInvalid:
    """Return the fault of a layout without its index.json, perhaps that of an `is_old` archive."""
    if is_old:
        return LayoutInvalid(
            f"it has no {INDEX}: it is an archive of a Docker before 25; `skopeo copy "
            "docker-archive:FILE oci-archive:OTHER` makes it an OCI layout"
        )
    return LayoutInvalid(f"it has no {INDEX}: it is no OCI layout")


def offered(found: list[Root], name: str | None) -> tuple[OfferedImage, ...]:
    """Name the images, the only one by `name` if there is one; raises OrderError, LayoutInvalid."""
    if name:
        found = _named(found, name)
    nameless = sum(not root.name for root in found)
    if nameless:
        only = "--name IMAGE names it" if len(found) == 1 else "import it alone, with --name IMAGE"
        raise LayoutInvalid(f"{nameless} of {len(found)} images have no full name: {only}")
    return tuple(
        OfferedImage(root.name, each.digest, each.media_type, each.size)
        for root in found
        for each in [root.descriptor]
    )


def _named(found: list[Root], name: str) -> list[Root]:
    try:
        parse_image(name)
    except RegistryError as error:
        raise OrderInvalid(f"--name: {error.message}") from None
    digests = {root.descriptor.digest for root in found}
    if len(digests) > 1:
        raise OrderInvalid(f"--name {shown(name)}: the layout has {len(digests)} images")
    return [Root(name, found[0].descriptor)]
