"""Content digests: parsing, computing, and proving bytes."""

from __future__ import annotations

import hashlib
import re
from typing import Protocol, Self

from mirror.oci.errors import DigestInvalid

# The registered algorithms (OCI image-spec, descriptor.md). Others are refused:
# a digest becomes a file name, so nothing else may pass.
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}", re.ASCII)


class Hasher(Protocol):
    """An incremental hash object, as hashlib makes them."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Hash more bytes."""

    def hexdigest(self) -> str:
        """Return the hash of all bytes so far."""

    def copy(self) -> Self:
        """Return a copy that continues from the same state."""


class Digest(str):
    """A validated `algorithm:hex` string. Equal to, and hashed like, its text."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Validate `text`; raises DigestInvalid."""
        if not _DIGEST.fullmatch(text):
            raise DigestInvalid(text)
        return cls(text)

    @classmethod
    def from_header(cls, header: str | None) -> Self | None:
        """Parse a header that should hold a digest; None if it is missing or invalid.

        Quotes, spaces and upper case are tolerated: they do not change the digest.
        """
        text = (header or "").strip().strip("\"' ").lower()
        return cls(text) if _DIGEST.fullmatch(text) else None

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Self:
        """Compute the digest of `data`."""
        return cls(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")

    @property
    def algorithm(self) -> str:
        """`sha256` or `sha512`."""
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        """The part after the colon."""
        return self.partition(":")[2]

    def hasher(self) -> Hasher:
        """Return a new hash object of this digest's algorithm."""
        return hashlib.new(self.algorithm)

    def proves(self, data: bytes) -> bool:
        """Whether `data` has this digest."""
        return Digest.of(data, self.algorithm) == self
