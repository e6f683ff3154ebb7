"""File sizes by digest, with a running sum of the disk space."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping

from mirror.oci.digest import Digest
from mirror.storage.catalog import charged


class Sizes(UserDict[Digest, int]):
    """Sizes in bytes, in the order of entry; `bytes` is the disk space of all."""

    def __init__(self, sizes: Mapping[Digest, int] | None = None) -> None:
        self.bytes = 0
        super().__init__(sizes or {})

    def __setitem__(self, digest: Digest, size: int) -> None:
        self.bytes += charged(size) - charged(self.data.get(digest, 0))
        self.data[digest] = size

    def __delitem__(self, digest: Digest) -> None:
        self.bytes -= charged(self.data.pop(digest))
