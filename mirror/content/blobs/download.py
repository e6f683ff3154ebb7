"""A download: one blob's bytes from upstream, in order, resumed where a body breaks off."""

from __future__ import annotations

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_delay,
    wait_exponential_jitter,
)

from mirror.oci.digest import Digest
from mirror.oci.errors import (
    ContentWrong,
    Denied,
    RangeBroken,
    RangeRefused,
    UpstreamFailure,
    UpstreamMisbehaved,
    UpstreamUnavailable,
    UpstreamUnreachable,
)
from mirror.oci.names import Repository
from mirror.upstream.blob_source import BlobSource, BlobStream, WantedBytes

_CONTRADICTIONS = 2  # answers that name another size than the first
_LITTLE = 1024 * 1024  # bytes that may be received again and again
_LOST = 2  # lost connections, after which a range may be the reason
_BROKEN = 2  # parts in a row that broke off at once, after which ranges may be the reason
_LEAST = 1 / 16  # of the bytes due, for a part that makes progress
_AT_ONCE = 64 * 1024  # bytes received of such a part, at most
_RESUMES = 64  # in all: a body that breaks off more often will not come through


class Download:
    """The bytes from `start` up to `stop`, or to the end. `size` is the whole blob's, in bytes.

    A body that breaks off is resumed for as long as `resume_timeout` says, without a byte in
    between. That is done by Range or, if that is refused and a `plain` question is allowed, by the
    whole blob, of which the first bytes are skipped. Every resumption asks the registry again: a
    redirect's signature is short-lived. A `size` that is known already is compared with each
    answer. With `unpack` a body that the host calls compressed is unpacked.
    """

    def __init__(
        self,
        source: BlobSource,
        repository: Repository,
        digest: Digest,
        start: int = 0,
        stop: int | None = None,
        *,
        size: int | None = None,
        plain: bool = True,
        unpack: bool = False,
    ) -> None:
        self._source = source
        self._repository = repository
        self._digest = digest
        self._stop = stop
        self._plain = plain
        self._unpack = unpack
        self._body: BlobStream | None = None
        self._at = 0  # the position of that body in the blob
        self._open = AsyncExitStack()
        self._resumes = 0
        self._contradictions = 0
        self._received = 0  # bytes, repeated ones included
        self._repeats = False  # the body is the whole blob, and its beginning was received before
        self._lost = 0  # connections in a row, each after all retries
        self._broken = 0  # parts in a row that broke off at once
        self.position = start
        self.size = size

    def __repr__(self) -> str:
        return f"<Download {self._digest}: at {self.position} of {self.size}>"

    async def __aenter__(self) -> Self:
        """Ask upstream, so that `size` is known; raises BlobUnknown, Denied, or UpstreamFailure."""
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
        """Return the next bytes, at least one; none at the end. Raises UpstreamFailure."""
        try:
            return await self._read()
        except UpstreamFailure as failure:
            if not self._may_pass(failure):
                raise
            return await self._persistence()(self._resume)

    async def _read(self) -> bytes:
        if self._body is None:
            await self._connect()
        while self._body is not None:
            data = await self._body.read()
            if not data:
                break
            skip = self.position - self._at  # of an upstream that sends the whole blob
            self._at += len(data)
            self._received += len(data)
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
        self._judge_part()
        self._body = None
        return await self._read()

    def _judge_part(self) -> None:
        """Count parts that break off at once: a range that is announced and not sent is none."""
        if self._body is not None:
            came, start = self._at - self._body.start, self._body.start
            due = (self._stop or self.size or came) - start
            at_once = start > 0 and came < _AT_ONCE and came <= due * _LEAST
            self._broken = self._broken + 1 if at_once else 0

    async def _connect(self) -> None:
        if self._resumes and self.size is not None and self._complete:
            return
        opening = self._source.open_blob(
            self._repository.name, self._digest, self._wanted(), self._whole_after
        )
        try:
            body = await self._open.enter_async_context(opening)
        except UpstreamUnreachable:
            self._lost += 1
            raise
        self._lost = 0
        if None not in (self.size, body.size) and body.size != self.size:
            self._contradictions += 1
            raise ContentWrong("upstream named two sizes of one blob")
        self._body, self._at = body, body.start
        self._repeats = body.start < self.position
        self.size = self.size if body.size is None else body.size

    def _wanted(self) -> WantedBytes:
        """Return the range to ask for: the whole blob, where ranges break off at once.

        Raises RangeBroken where the whole blob must not be asked for.
        """
        if self._broken < _BROKEN:
            return WantedBytes(self.position, self._stop, self.size, self._unpack)
        if not self._plain:
            raise RangeBroken("upstream breaks ranges off at once")
        return WantedBytes(size=self.size, unpack=self._unpack)

    @property
    def _whole_after(self) -> tuple[type[UpstreamFailure], ...]:
        """The failures of a range after which the whole blob is asked for.

        A host that is unreachable for a moment, midway, costs a pause and no byte twice; a host
        that hangs up again and again may do so because of the range.
        """
        if not self._plain:
            return ()
        return (RangeRefused,) if self._resumes > 0 and self._lost < _LOST else (UpstreamFailure,)

    @property
    def _most(self) -> int:
        """How many bytes may be received: few, where each attempt is the whole blob."""
        return max(2 * (self.size or self.position), _LITTLE)

    def _may_pass(self, failure: BaseException) -> bool:
        """Whether the same question may succeed in a moment.

        The registry's own refusal of the whole blob is an answer. Of two sizes that contradict each
        other either may be the wrong one, so that one answer more decides.
        """
        if isinstance(failure, Denied | RangeRefused) or self._resumes > _RESUMES:
            return False
        if self._repeats and not self._plain:  # a part was to be cheaper than the whole
            return False
        if self._repeats and self._received + self.position > self._most:
            return False
        if isinstance(failure, ContentWrong):
            return self._contradictions < _CONTRADICTIONS
        return isinstance(failure, UpstreamFailure)

    def _persistence(self) -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception(self._may_pass),
            stop=stop_after_delay(self._source.resume_timeout),
            wait=wait_exponential_jitter(multiplier=0.2, max=5, jitter=0.3),
            reraise=True,
        )
