"""Reading upstream's responses: what is an answer, what is a fault, what must not be believed."""

from __future__ import annotations

import zlib

import aiohttp
from aiohttp import hdrs

from mirror.oci import media
from mirror.oci.digest import Digest
from mirror.oci.errors import (
    Denied,
    RegistryError,
    UpstreamMisbehaved,
    UpstreamUnavailable,
)
from mirror.oci.manifest import MAX_SIZE, Hint

DENIED = "upstream denies access: the repository does not exist, or is private"
# Content codings (RFC 9110, 8.4.1, and the IANA registry). Other words that registries have sent
# (aws-chunked, UTF-8, none) change nothing of a body.
_GZIP = b"\x1f\x8b"  # how it begins (RFC 1952, 2.3.1)
# Types of error documents and login pages; what names none may be either.
_NO_CONTENT = frozenset({"", "text/plain"})
_CODINGS = frozenset({"br", "compress", "deflate", "gzip", "x-gzip", "zstd"})
_LONGEST_TYPE = 255  # characters: two names of 127 and a slash (RFC 6838, 4.2)


def refuse_faults(response: aiohttp.ClientResponse, upstream: str) -> None:
    """Raise UpstreamUnavailable where upstream could not answer. What is in the body is no matter.

    An error's status says all there is, be its body a document or a web page.
    """
    status = response.status
    if status >= 500 or status == 408:
        raise UpstreamUnavailable(f"upstream {upstream} answers {status}")


def says_spent(response: aiohttp.ClientResponse) -> bool:
    """Whether a 429 is a registry's own: an OCI document (TOOMANYREQUESTS).

    Whatever stands before a registry counts requests, and writes something else: plain text before
    Docker Hub (docker/hub-feedback #1907), web pages elsewhere.
    """
    return response.status == 429 and media_type(response) == media.JSON


def check(response: aiohttp.ClientResponse, missing: RegistryError) -> None:
    """Raise `missing` for a 404, Denied for a 401 or 403, UpstreamMisbehaved for the unexpected.

    A success is none by its headers: content is proven by its digest, a listing is read.
    """
    status = response.status
    if 200 <= status < 300:
        return
    if status == 404:
        raise missing
    if status in (401, 403):
        raise Denied(DENIED)
    raise UpstreamMisbehaved(f"upstream answers {status}")


def digest(response: aiohttp.ClientResponse) -> Digest | None:
    """Return the digest that upstream promises; None if it promises none that can be read."""
    return Digest.told(response.headers.get("Docker-Content-Digest"))


def is_content(response: aiohttp.ClientResponse, kind: str, asked: str) -> bool:
    """Whether a success's headers are those of the manifest or blob that was asked for.

    Headers tell no more than that it is not obviously something else: error documents and login
    pages come under a 200, too.
    """
    named = digest(response)
    if named is not None:
        return named == asked or ":" not in asked
    told = media_type(response)
    if kind == "manifest":
        return told in media.KNOWN
    return told not in _NO_CONTENT and not told.endswith(("json", "html", "xml"))


def _coding(response: aiohttp.ClientResponse) -> str:
    return response.headers.get(hdrs.CONTENT_ENCODING, "").strip().lower()


def media_type(response: aiohttp.ClientResponse) -> str:
    """Return the media type that upstream names, bare; "" if none, or one that is too long.

    aiohttp's own `content_type` takes quadratic time (cpython #136063).
    """
    told = media.bare(response.headers.get(hdrs.CONTENT_TYPE, ""))
    return told if len(told) <= _LONGEST_TYPE else ""


def is_page(response: aiohttp.ClientResponse) -> bool:
    """Whether an answer calls itself a web page."""
    return "html" in media_type(response)


def is_packed(response: aiohttp.ClientResponse) -> bool:
    """Whether a host says that it compressed a body, though it was asked not to."""
    return _coding(response) in ("gzip", "x-gzip")


def unpacked(body: bytes) -> bytes:
    """Undo gzip where a host compresses though it was asked not to; up to a manifest's size.

    Go's clients, which ask for gzip by themselves, undo it unseen (net/http, Transport). What says
    that it is compressed and is not stays as it is. Of what is made to be slow 4 MiB take a quarter
    of a second (tables of codes for nothing, measured): see `documents.aside`.
    """
    if not body.startswith(_GZIP):
        return body
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        return inflater.decompress(body, MAX_SIZE)
    except zlib.error:
        return body


def hint(response: aiohttp.ClientResponse) -> Hint:
    """Read what a HEAD says of a manifest; what is odd is as good as missing."""
    if not 200 <= response.status < 300:
        return Hint(missing=response.status == 404)
    told, size = media_type(response), response.content_length or 0
    if _coding(response) in _CODINGS or size > MAX_SIZE:  # that is the length of what would be sent
        size = 0
    return Hint(digest(response), told if media.names_manifest(told) else "", size)
