"""Signed manifests of schema 1: the part of the body that their digest covers.

A signature's protected header says where the payload ends in the body, and which text follows it
(libtrust, "pretty" JSON signatures; distribution, docs/content/spec/deprecated-schema-v1.md).
"""

from __future__ import annotations

import base64

from mirror.oci import strict_json

_MOST = 8  # signatures that are checked: each takes a copy of the body


def payload(body: bytes) -> bytes | None:
    """Return the signed payload; None if this is not a signed manifest.

    The rest of the body is unproven, so it may hold signatures only: parsed as JSON, body and
    payload must otherwise be equal.
    """
    if b'"signatures"' not in body:
        return None
    try:
        document = strict_json.read(body)
        signatures = document.pop("signatures")[:_MOST]
        signed = {_signed(body, signature["protected"]) for signature in signatures}
        if len(signed) == 1 and strict_json.read(*signed) == document:
            return signed.pop()
    except (ValueError, TypeError, KeyError, AttributeError):  # not this format
        pass
    return None


def _signed(body: bytes, protected: str) -> bytes:
    header = strict_json.read(_decoded(protected))
    length, tail = header["formatLength"], _decoded(header["formatTail"])
    if type(length) is not int or not 0 <= length <= len(body):
        raise ValueError(length)
    return body[:length] + tail


def _decoded(text: str) -> bytes:
    """Decode base64url without padding (RFC 7515, 2)."""
    return base64.urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))
