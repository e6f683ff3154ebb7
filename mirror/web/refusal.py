"""What an error becomes: a reply with its document, and an outcome for the books."""

from __future__ import annotations

from mirror.cache.outcome import Outcome
from mirror.oci.errors import (
    BlobUnknown,
    Denied,
    ManifestUnknown,
    NameUnknown,
    RegistryError,
    UpstreamFailure,
)
from mirror.web import fields
from mirror.web.reply import Reply


def refusal(
    error: RegistryError, *, last: bool = False, namespace: str = "", more: str = ""
) -> Reply:
    """Answer with an error document; `last` ends the connection.

    `namespace` is the upstream that the client named, `more` are header lines.
    """
    body, outcome = error.body(), _outcome(error)
    return Reply(
        error.status,
        fields.error(error, outcome) + more + fields.namespace(namespace),
        length=len(body),
        body=body,
        outcome=outcome,
        cause=error.message,
        last=last,
    )


def _outcome(error: RegistryError) -> Outcome | None:
    """Tell a failure from an upstream's answer that there is no such thing, and from our own."""
    if isinstance(error, ManifestUnknown | BlobUnknown | NameUnknown | Denied):
        return Outcome.MISS
    if isinstance(error, UpstreamFailure) or error.status >= 500:
        return Outcome.ERROR
    return None
