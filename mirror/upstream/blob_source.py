"""A source of blobs, as the rest of the mirror sees it: an upstream registry today."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from mirror.oci.digest import Digest
from mirror.oci.errors import UpstreamFailure
from mirror.oci.ranges import Span
from mirror.upstream.leases import Leases


@dataclass(frozen=True, slots=True)
class WantedBytes:
    """The bytes of a blob from `start` up to, not including, `stop`, or to the end.

    `size` is the whole blob's, if known: responses with another size are rejected. `unpack`
    decompresses a gzip body that the host sent although the request asked for none.
    """

    start: int = 0
    stop: int | None = None
    size: int | None = None
    unpack: bool = False

    @property
    def range(self) -> str | None:
        """The Range header for these bytes; None for the whole blob."""
        if self.stop is None:
            return f"bytes={self.start}-" if self.start else None
        return Span(self.start, self.stop).header()


class BlobStream(Protocol):
    """The bytes of a blob as they arrive, from `start` on. `size` is the whole blob's, if known."""

    start: int
    size: int | None

    async def read(self) -> bytes:
        """Return the bytes received, at least one; empty at the end. Raises UpstreamFailure.

        Bytes that arrived before a failure are returned first.
        """


class BlobSource(Protocol):
    """A place that blobs are fetched from. Nothing that it says or sends is proven.

    A source knows repositories and digests, and no clients; `name` is the name of a repository,
    without its upstream. `tests/upstream/test_blob_sources.py` holds the promises of every source.
    """

    @property
    def leases(self) -> Leases:
        """The activity in progress with the source: while there is some, it is not closed."""

    @property
    def resume_timeout(self) -> float:
        """For how long, in seconds, a body that broke off is to be resumed without a byte."""

    async def head_blob(self, name: str, digest: Digest) -> int | None:
        """Return a blob's size in bytes, as a hint. None, and no error, if there is none."""

    async def find_blob(self, name: str, digest: Digest, size: int | None = None) -> int | None:
        """Check whether a repository has a blob; returns its size in bytes, None if not reported.

        Raises BlobUnknown, Denied, or UpstreamFailure; UpstreamMisbehaved if only the blob's bytes
        could prove it, because another `size` is known.
        """

    def open_blob(
        self,
        name: str,
        digest: Digest,
        wanted: WantedBytes,
        whole_after: tuple[type[UpstreamFailure], ...] = (),
    ) -> AbstractAsyncContextManager[BlobStream]:
        """Open the wanted bytes of a blob; the stream's `start` says where they begin.

        A range is a shortcut: a source without ranges sends the whole blob, or raises RangeRefused.
        `whole_after` lists the errors of a range after which the whole blob is opened instead.
        Raises BlobUnknown, Denied, or UpstreamFailure.
        """
