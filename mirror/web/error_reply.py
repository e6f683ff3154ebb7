"""Replies to errors: the error document, and the outcome for logs and metrics."""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus

from mirror.content.outcome import Outcome
from mirror.oci.errors import (
    BlobUnknown,
    Denied,
    ManifestUnknown,
    NameUnknown,
    RegistryError,
    UpstreamFailure,
)
from mirror.web import response_headers
from mirror.web.reply import Reply


def refusal(
    error: RegistryError, *, last: bool = False, namespace: str = "", more: str = ""
) -> Reply:
    """Return the reply with an error's document; `last` ends the connection.

    `namespace` is the upstream that the client named, `more` are header lines.
    """
    body, outcome = error.body(), _outcome(error)
    return Reply(
        error.status,
        response_headers.error(error, outcome) + more + response_headers.namespace(namespace),
        length=len(body),
        body=body,
        outcome=outcome,
        cause=error.message,
        last=last,
    )


def whole_answer(error: RegistryError) -> bytes:
    """Return head and document as bytes, for a connection on which no request could be parsed."""
    body = error.body()
    return (
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n"
        f"{response_headers.error(error, _outcome(error))}Content-Length: {len(body)}\r\n"
        f"Date: {formatdate(usegmt=True)}\r\nConnection: close\r\n\r\n"
    ).encode("latin-1", "replace") + body


def _outcome(error: RegistryError) -> Outcome | None:
    """Return MISS for a denial by upstream, ERROR for a failure, None for the mirror's refusal."""
    if isinstance(error, ManifestUnknown | BlobUnknown | NameUnknown | Denied):
        return Outcome.MISS
    if isinstance(error, UpstreamFailure) or error.status >= 500:
        return Outcome.ERROR
    return None
