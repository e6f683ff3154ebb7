"""Digests: what content is called, and how it is proven."""

from __future__ import annotations

import hashlib
import re
from typing import Protocol, Self

from mirror.oci.errors import DigestInvalid

# The registered algorithms (OCI image-spec, descriptor.md). Others are refused:
# a digest becomes a file name, so nothing else may pass.
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}", re.ASCII)


class Hasher(Protocol):
    """A hash on its way, as hashlib makes them."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take in more bytes."""

    def hexdigest(self) -> str:
        """Return the hash of what was taken in."""

    def copy(self) -> Self:
        """Return another that goes on from here."""


class Digest(str):
    """A validated `algorithm:hex`. Equal to, and hashed like, its text."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Validate `text`; raises DigestInvalid."""
        if not _DIGEST.fullmatch(text):
            raise DigestInvalid(text)
        return cls(text)

    @classmethod
    def told(cls, header: str | None) -> Self | None:
        """Read a header that should be a digest; None where it is missing or says none.

        Quotes, spaces and capitals change nothing of what is named.
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
        """The part behind the colon."""
        return self.partition(":")[2]

    def hasher(self) -> Hasher:
        """Return a fresh hash object of this digest's algorithm."""
        return hashlib.new(self.algorithm)

    def proves(self, data: bytes) -> bool:
        """Whether `data` is what this digest names."""
        return Digest.of(data, self.algorithm) == self
