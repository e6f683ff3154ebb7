"""Errors that know what a client is to be told: status, OCI code, headers and body."""

from __future__ import annotations

import copy
import json
from typing import ClassVar, Self

_SHOWN = 80  # characters of a client's own words that an error repeats


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
        """Return a copy to be raised once more: a shared error would grow with each raise."""
        return copy.copy(self).with_traceback(None)

    def body(self) -> bytes:
        """Return the JSON document, as UTF-8."""
        error = {"code": self.code, "message": self.message, "detail": self.detail}
        return json.dumps({"errors": [error]}).encode()

    def headers(self) -> dict[str, str]:
        """Return the headers that belong to this error beside the body's."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


def shown(text: str) -> str:
    """Quote a client's words for a message, cut to a bearable length."""
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
    """The tag breaks the grammar. 404, as the conformance suite wants it."""

    status, code = 404, "MANIFEST_UNKNOWN"

    def __init__(self, tag: str) -> None:
        super().__init__(
            f"invalid tag {shown(tag)}: at most 128 letters, digits, '.', '_' or '-', "
            "not starting with '.' or '-'"
        )


class DigestInvalid(RegistryError):
    """The digest breaks the grammar or names an algorithm nobody registered."""

    status, code = 400, "DIGEST_INVALID"

    def __init__(self, digest: str) -> None:
        super().__init__(
            f"invalid digest {shown(digest)}: sha256: with 64 or sha512: with 128 lower-case "
            "hex digits"
        )


class PageInvalid(RegistryError):
    """The page of a listing is not named by a number of tags, nor by the last one before it."""

    status, code = 400, "PAGINATION_NUMBER_INVALID"


class RequestInvalid(RegistryError):
    """What came is not a request that HTTP allows, or longer than we read."""

    status, code = 400, "UNSUPPORTED"


class ClientGone(RegistryError):
    """Who asked waits for no answer any more."""

    status, code = 400, "UNSUPPORTED"


class Stopped(RegistryError):
    """The mirror stops; who asked gets no answer any more."""

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
    """The mirror may not give this to whoever asks; upstream has no say in it."""

    status, code = 403, "DENIED"


class Unauthorized(RegistryError):
    """Who asks has to log in to the mirror (RFC 9110, 15.5.2)."""

    status, code = 401, "UNAUTHORIZED"

    def headers(self) -> dict[str, str]:
        """Say how; clients of registries know what to do (RFC 7617, 2)."""
        return {"WWW-Authenticate": 'Basic realm="mirror", charset="UTF-8"'}


class ClientTooFast(RegistryError):
    """A client asks more often than the mirror takes from one."""

    status, code = 429, "TOOMANYREQUESTS"


class Unsupported(RegistryError):
    """A push, a delete, or a method that means nothing here."""

    status, code = 405, "UNSUPPORTED"

    def __init__(self, message: str, *, allow: str = "GET, HEAD") -> None:
        super().__init__(message)
        self.allow = allow

    def headers(self) -> dict[str, str]:
        """Name the methods that are allowed (RFC 9110, 15.5.6)."""
        return {"Allow": self.allow}


class RangeMalformed(RegistryError):
    """The Range header is of bytes, but not to be understood (RFC 9110, 14.2, lets us refuse)."""

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
        """Say how long the blob is."""
        return {"Content-Range": f"bytes */{self.size}"}


class UpstreamFailure(RegistryError):
    """Upstream could not answer: what is cached may be served instead, stale if need be."""

    status, code = 502, "UNAVAILABLE"


class Denied(UpstreamFailure):
    """The registry refuses to give us this; kept content is served over it until confirmed."""

    status, code = 403, "DENIED"


class UpstreamMisbehaved(UpstreamFailure):
    """Upstream answered with something that must not be passed on or kept."""


class ContentWrong(UpstreamMisbehaved):
    """What came of a blob cannot be part of it: no use in keeping it to be resumed."""


class RangeRefused(UpstreamMisbehaved):
    """Upstream answers otherwise than a question for a part of a blob is to be answered."""


class RangeBroken(RangeRefused):
    """Upstream begins to send a part of a blob, and breaks it off again and again."""


class ManifestWrong(UpstreamMisbehaved):
    """What came is not the manifest that was asked for: asked again, the right one may come."""


class ManifestUnfit(UpstreamMisbehaved):
    """A manifest is what its digest says, and must not be kept all the same."""


class UpstreamUnavailable(UpstreamFailure):
    """Upstream cannot be reached, or says itself that it cannot serve."""

    status = 503


class BrokenOff(UpstreamUnavailable):
    """Upstream broke off in the middle of a body."""


class ContentRefused(UpstreamUnavailable):
    """The host that a registry redirects to refuses one URL, which is no word of the registry's."""


class UpstreamUnreachable(UpstreamUnavailable):
    """The connection to upstream was not made, or ended without an answer."""


class HostUnreachable(UpstreamUnreachable):
    """No connection to the host can be made: to ask in another way is of no use."""


class UpstreamDown(UpstreamUnavailable):
    """Upstream failed so often of late that it was not even asked."""


class UpstreamTimeout(UpstreamFailure):
    """Upstream was silent for too long."""

    status = 504


class TooManyRequests(UpstreamFailure):
    """Upstream has been asked more often than it likes."""

    status, code = 429, "TOOMANYREQUESTS"


class PullLimitSpent(TooManyRequests):
    """No pull is left of what upstream allows, or not enough for what is wanted."""


class ReserveKept(TooManyRequests):
    """The pulls that are left are kept for other repositories."""


class ShareSpent(TooManyRequests):
    """The client has spent what it may of the pulls that upstream allows."""


class HeldBack(TooManyRequests):
    """A tag has changed, and stays what it was for now, to save what is left of the pulls."""


def may_pass(failure: Exception) -> bool:
    """Whether another question, a moment later, may be answered: no bytes of content were wrong.

    A registry's denial or 404 may be one of its copies', a silence that of one connection. A rate
    limit, a pull limit, and a host that cannot be reached are the same for all.
    """
    wrong = isinstance(failure, ContentWrong | ManifestWrong | ManifestUnfit)
    lasting = isinstance(failure, TooManyRequests | HostUnreachable | UpstreamDown)
    return isinstance(failure, RegistryError) and not (wrong or lasting)
