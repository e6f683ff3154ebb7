"""Signed manifests of schema 1: the part of the body that their digest is of.

A signature's protected header says where the payload ends in the body, and what follows there
(libtrust, "pretty" JSON signatures; distribution, docs/content/spec/deprecated-schema-v1.md).
"""

from __future__ import annotations

import base64

from mirror.oci import documents

_MOST = 8  # signatures that are looked at: each is a copy of the body


def payload(body: bytes) -> bytes | None:
    """Return what was signed; None if this is no signed manifest.

    The rest of the body is proven by nothing, so it may hold signatures and nothing else: read as
    JSON, body and payload are the same but for these.
    """
    if b'"signatures"' not in body:
        return None
    try:
        document = documents.read(body)
        signatures = document.pop("signatures")[:_MOST]
        signed = {_signed(body, signature["protected"]) for signature in signatures}
        if len(signed) == 1 and documents.read(*signed) == document:
            return signed.pop()
    except (ValueError, TypeError, KeyError, AttributeError):  # of another form
        pass
    return None


def _signed(body: bytes, protected: str) -> bytes:
    header = documents.read(_decoded(protected))
    length, tail = header["formatLength"], _decoded(header["formatTail"])
    if type(length) is not int or not 0 <= length <= len(body):
        raise ValueError(length)
    return body[:length] + tail


def _decoded(text: str) -> bytes:
    """Decode base64url without padding (RFC 7515, 2)."""
    return base64.urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))
