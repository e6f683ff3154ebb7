"""A blob's bytes from upstream, one after the other: resumed where they broke off."""

from __future__ import annotations

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_exponential_jitter,
)

from mirror.oci.digest import Digest
from mirror.oci.errors import (
    ContentWrong,
    UpstreamMisbehaved,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from mirror.oci.names import Repository
from mirror.upstream.registry import Registry
from mirror.upstream.responses import BlobBody

_RESUMES = 64  # in all: a body that breaks off more often will not come through


class Download:
    """The bytes from `start` up to `stop`, or to the end. `size` is the whole blob's, in bytes.

    What breaks off is resumed for as long as upstream's patience says, without a byte in between.
    Every resumption asks the registry again: the redirect's signature is short-lived.
    """

    def __init__(
        self,
        registry: Registry,
        repository: Repository,
        digest: Digest,
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        self._registry = registry
        self._repository = repository
        self._digest = digest
        self._stop = stop
        self._body: BlobBody | None = None
        self._at = 0  # where in the blob that body is
        self._open = AsyncExitStack()
        self._resumes = 0
        self.position = start
        self.size: int | None = None

    def __repr__(self) -> str:
        return f"<Download {self._digest}: at {self.position} of {self.size}>"

    async def __aenter__(self) -> Self:
        """Ask, so that `size` is known; raises BlobUnknown, Denied, or UpstreamFailure."""
        await self._connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._open.aclose()

    async def read(self) -> bytes:
        """Return what has arrived, at least a byte; nothing at the end. Raises UpstreamFailure."""
        try:
            return await self._read()
        except (UpstreamUnavailable, UpstreamTimeout):
            return await self._persistence()(self._resume)

    async def _read(self) -> bytes:
        if self._body is None:
            await self._connect()
        while self._body is not None:
            data = await self._body.read()
            if not data:
                break
            skip = self.position - self._at  # of an upstream that ignores ranges
            self._at += len(data)
            if skip < len(data):
                data = data[skip:] if skip > 0 else data
                self.position += len(data)
                return data
        if self._complete:
            return b""
        raise UpstreamUnavailable("upstream ended the blob before its end")

    @property
    def _complete(self) -> bool:
        end = self.size if self._stop is None else self._stop
        return end is None or self.position >= end

    async def _resume(self) -> bytes:
        self._resumes += 1
        if self._resumes > _RESUMES:
            raise UpstreamMisbehaved(f"upstream broke off {_RESUMES} times")
        await self._open.aclose()
        self._body = None
        return await self._read()

    async def _connect(self) -> None:
        if self.size is not None and self._complete:
            return
        opening = self._registry.open_blob(
            self._repository.name, self._digest, self.position, self._stop
        )
        body = await self._open.enter_async_context(opening)
        if self.size is not None and body.size != self.size:
            raise ContentWrong("upstream changed its mind about the size of a blob")
        self._body, self._at, self.size = body, body.start, body.size

    def _persistence(self) -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception_type((UpstreamUnavailable, UpstreamTimeout)),
            stop=stop_after_delay(self._registry.patience.resume),
            wait=wait_exponential_jitter(multiplier=0.2, max=5, jitter=0.3),
            reraise=True,
        )
