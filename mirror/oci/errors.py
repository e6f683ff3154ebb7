"""Errors that carry their own HTTP answer: status, OCI error code, headers and body."""

from __future__ import annotations

import copy
import json
from typing import ClassVar, Self

_SHOWN = 80  # characters of a client's text that an error message repeats


class RegistryError(Exception):
    """An error with an OCI error document (distribution-spec, "Error codes").

    `retry_after` is in seconds. Subclasses fix the status and code.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "UNKNOWN"

    def __init__(
        self, message: str, *, detail: object = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.retry_after = retry_after

    def again(self) -> Self:
        """Return a copy to raise: the traceback of a shared error would grow with each raise."""
        return copy.copy(self).with_traceback(None)

    def body(self) -> bytes:
        """Return the JSON document, as UTF-8."""
        error = {"code": self.code, "message": self.message, "detail": self.detail}
        return json.dumps({"errors": [error]}).encode()

    def headers(self) -> dict[str, str]:
        """Return the headers that this error needs in addition to the body's."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


def shown(text: str) -> str:
    """Quote a client's text for a message, shortened to a readable length."""
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


class NameInvalid(RegistryError):
    """The repository name breaks the grammar."""

    status, code = 400, "NAME_INVALID"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"invalid repository name {shown(name)}: at most 255 characters of lower-case letters "
            "and digits, separated by . _ __ - or /"
        )


class TagInvalid(RegistryError):
    """The tag breaks the grammar. Status 404, as the conformance suite expects."""

    status, code = 404, "MANIFEST_UNKNOWN"

    def __init__(self, tag: str) -> None:
        super().__init__(
            f"invalid tag {shown(tag)}: at most 128 letters, digits, '.', '_' or '-', "
            "not starting with '.' or '-'"
        )


class DigestInvalid(RegistryError):
    """The digest breaks the grammar or uses an unregistered algorithm."""

    status, code = 400, "DIGEST_INVALID"

    def __init__(self, digest: str) -> None:
        super().__init__(
            f"invalid digest {shown(digest)}: sha256: with 64 or sha512: with 128 lower-case "
            "hex digits"
        )


class PageInvalid(RegistryError):
    """A page of a listing is identified neither by a number of tags nor by the tag before it."""

    status, code = 400, "PAGINATION_NUMBER_INVALID"


class RequestInvalid(RegistryError):
    """The request is not valid HTTP, or exceeds a length limit."""

    status, code = 400, "UNSUPPORTED"


class ClientGone(RegistryError):
    """The client closed the connection before its answer was ready."""

    status, code = 400, "UNSUPPORTED"


class Stopped(RegistryError):
    """The mirror stops before the request is answered."""

    status, code = 503, "UNAVAILABLE"


class PathUnknown(RegistryError):
    """Nothing is served at this path."""

    status, code = 404, "UNSUPPORTED"


class NameUnknown(RegistryError):
    """The upstream or repository is not known, or not readable anonymously."""

    status, code = 404, "NAME_UNKNOWN"


class ManifestUnknown(RegistryError):
    """Upstream has no such manifest."""

    status, code = 404, "MANIFEST_UNKNOWN"


class BlobUnknown(RegistryError):
    """Upstream has no such blob in this repository."""

    status, code = 404, "BLOB_UNKNOWN"


class NotAllowed(RegistryError):
    """The mirror's own rules refuse this request; upstream is not involved."""

    status, code = 403, "DENIED"


class Unauthorized(RegistryError):
    """The client has to log in to the mirror (RFC 9110, 15.5.2)."""

    status, code = 401, "UNAUTHORIZED"

    def headers(self) -> dict[str, str]:
        """Return the challenge for Basic authentication (RFC 7617, 2)."""
        return {"WWW-Authenticate": 'Basic realm="mirror", charset="UTF-8"'}


class ClientTooFast(RegistryError):
    """The client exceeds a rate limit of the mirror, or too many logins are being checked."""

    status, code = 429, "TOOMANYREQUESTS"


class Unsupported(RegistryError):
    """A push, a delete, or a method that this path does not support."""

    status, code = 405, "UNSUPPORTED"

    def __init__(self, message: str, *, allow: str = "GET, HEAD") -> None:
        super().__init__(message)
        self.allow = allow

    def headers(self) -> dict[str, str]:
        """List the allowed methods (RFC 9110, 15.5.6)."""
        return {"Allow": self.allow}


class RangeMalformed(RegistryError):
    """The Range header is in bytes but malformed (RFC 9110, 14.2, allows refusing it)."""

    status, code = 400, "RANGE_INVALID"

    def __init__(self, header: str) -> None:
        super().__init__(f"malformed range {shown(header)}: bytes=FIRST-LAST, FIRST- or -LENGTH")


class RangeInvalid(RegistryError):
    """The range lies outside the blob, `size` bytes long (RFC 9110, 15.5.17)."""

    status, code = 416, "RANGE_INVALID"

    def __init__(self, size: int) -> None:
        super().__init__(f"the range lies outside the blob's {size} bytes")
        self.size = size

    def headers(self) -> dict[str, str]:
        """Return the blob's size."""
        return {"Content-Range": f"bytes */{self.size}"}


class UpstreamFailure(RegistryError):
    """Upstream could not answer. Stored content may be served instead, stale if necessary."""

    status, code = 502, "UNAVAILABLE"


class Denied(UpstreamFailure):
    """The registry denies access. Stored content is still served until the denial is confirmed."""

    status, code = 403, "DENIED"


class UpstreamMisbehaved(UpstreamFailure):
    """Upstream's answer must be neither passed on nor stored."""


class ContentWrong(UpstreamMisbehaved):
    """The bytes received cannot be part of the blob; the partial is useless for resuming."""


class RangeRefused(UpstreamMisbehaved):
    """Upstream's answer to a range request is not valid for one."""


class RangeBroken(RangeRefused):
    """Upstream starts to send a range, and breaks off repeatedly."""


class ManifestWrong(UpstreamMisbehaved):
    """The body received is not the requested manifest; another attempt may return the right one."""


class ManifestUnfit(UpstreamMisbehaved):
    """A manifest matches its digest, but must not be stored."""


class UpstreamUnavailable(UpstreamFailure):
    """Upstream cannot be reached, or reports that it cannot serve."""

    status = 503


class BrokenOff(UpstreamUnavailable):
    """Upstream broke off in the middle of a body."""


class ContentRefused(UpstreamUnavailable):
    """The target of a registry's redirect refuses one URL; the registry itself has not refused."""


class UpstreamUnreachable(UpstreamUnavailable):
    """The connection to upstream was not established, or ended without a response."""


class HostUnreachable(UpstreamUnreachable):
    """No connection to the host can be established: a different request would fail, too."""


class UpstreamDown(UpstreamUnavailable):
    """The circuit breaker is open: upstream failed too often lately, and no request was sent."""


class UpstreamTimeout(UpstreamFailure):
    """Upstream sent nothing for too long."""

    status = 504


class TooManyRequests(UpstreamFailure):
    """Upstream's rate limit is exceeded."""

    status, code = 429, "TOOMANYREQUESTS"


class PullLimitSpent(TooManyRequests):
    """No pull is left of upstream's limit, or not enough for this request."""


class ReserveKept(TooManyRequests):
    """The last pulls are reserved: for chosen repositories, or for manifests just announced."""


class ShareSpent(TooManyRequests):
    """The client has spent its share of the pulls."""


class HeldBack(TooManyRequests):
    """A tag has changed, but the new manifest is not fetched yet, to save the remaining pulls."""


def may_pass(failure: Exception) -> bool:
    """Whether another request, a moment later, may succeed: no bytes of content were wrong.

    A denial or 404 may come from one replica of the registry, a silence from one connection. A rate
    limit, a pull limit and an unreachable host affect all requests alike.
    """
    wrong = isinstance(failure, ContentWrong | ManifestWrong | ManifestUnfit)
    lasting = isinstance(failure, TooManyRequests | HostUnreachable | UpstreamDown)
    return isinstance(failure, RegistryError) and not (wrong or lasting)
