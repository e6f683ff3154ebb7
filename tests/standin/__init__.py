"""A stand-in for Docker Hub: registry, token server and CDN on loopback.

It is the tests' oracle, so it imports nothing of `mirror`.
"""

from .blobs import Blob
from .faults import Fault, padded, with_fields, without
from .hub import Hub
from .images import Document, Image, Index, image_from_rootfs, make_artifact, make_image, make_index
from .journal import Seen
from .terms import Terms

__all__ = [
    "Blob",
    "Document",
    "Fault",
    "Hub",
    "Image",
    "Index",
    "Seen",
    "Terms",
    "image_from_rootfs",
    "make_artifact",
    "make_image",
    "make_index",
    "padded",
    "with_fields",
    "without",
]
