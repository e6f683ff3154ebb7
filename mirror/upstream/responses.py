"""Reading upstream's responses: answers, faults, and headers that are not credible."""

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
# Content codings (RFC 9110, 8.4.1, and the IANA registry). Other values that registries have sent
# (aws-chunked, UTF-8, none) do not change a body.
_GZIP = b"\x1f\x8b"  # the first bytes of a gzip (RFC 1952, 2.3.1)
# Types of error documents and login pages; a response without a type may be one, too.
_NO_CONTENT = frozenset({"", "text/plain"})
_CODINGS = frozenset({"br", "compress", "deflate", "gzip", "x-gzip", "zstd"})
_LONGEST_TYPE = 255  # characters: two names of 127 and a slash (RFC 6838, 4.2)


def refuse_faults(response: aiohttp.ClientResponse, upstream: str) -> None:
    """Raise UpstreamUnavailable if upstream could not answer.

    An error's status decides; its body, a document or a web page, is ignored.
    """
    status = response.status
    if status >= 500 or status == 408:
        raise UpstreamUnavailable(f"upstream {upstream} answers {status}")


def says_spent(response: aiohttp.ClientResponse) -> bool:
    """Whether a 429 comes from the registry itself: an OCI document (TOOMANYREQUESTS).

    A gateway in front of a registry counts requests, and writes another body: plain text at Docker
    Hub (docker/hub-feedback #1907), web pages elsewhere.
    """
    return response.status == 429 and media_type(response) == media.JSON


def check(response: aiohttp.ClientResponse, missing: RegistryError) -> None:
    """Raise `missing` for a 404, Denied for a 401 or 403, UpstreamMisbehaved for other failures.

    Headers do not make a success: content is proven by its digest, a listing is parsed.
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
    """Return the digest that upstream announces; None if missing or invalid."""
    return Digest.from_header(response.headers.get("Docker-Content-Digest"))


def is_content(response: aiohttp.ClientResponse, kind: str, asked: str) -> bool:
    """Whether a success's headers fit the requested manifest or blob.

    Headers only rule out obvious mismatches: error documents and login pages have status 200, too.
    """
    named = digest(response)
    if named is not None:
        return named == asked or ":" not in asked
    declared = media_type(response)
    if kind == "manifest":
        return declared in media.KNOWN
    return declared not in _NO_CONTENT and not declared.endswith(("json", "html", "xml"))


def _coding(response: aiohttp.ClientResponse) -> str:
    return response.headers.get(hdrs.CONTENT_ENCODING, "").strip().lower()


def media_type(response: aiohttp.ClientResponse) -> str:
    """Return upstream's media type without parameters; "" if missing or too long.

    aiohttp's own `content_type` takes quadratic time (cpython #136063).
    """
    declared = media.bare(response.headers.get(hdrs.CONTENT_TYPE, ""))
    return declared if len(declared) <= _LONGEST_TYPE else ""


def is_page(response: aiohttp.ClientResponse) -> bool:
    """Whether a response is declared as a web page."""
    return "html" in media_type(response)


def is_packed(response: aiohttp.ClientResponse) -> bool:
    """Whether a body is declared as gzip, although the request asked for none."""
    return _coding(response) in ("gzip", "x-gzip")


def unpacked(body: bytes) -> bytes:
    """Decompress a gzip body that the request did not ask for; up to a manifest's size.

    Go's clients, which request gzip by themselves, do the same unseen (net/http, Transport). A body
    that is not gzip stays unchanged. Hostile input of 4 MiB takes a quarter of a second (useless
    code tables, measured): see `strict_json.on_thread`.
    """
    if not body.startswith(_GZIP):
        return body
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        return inflater.decompress(body, MAX_SIZE)
    except zlib.error:
        return body


def hint(response: aiohttp.ClientResponse) -> Hint:
    """Parse the headers of a HEAD for a manifest; odd values count as missing."""
    if not 200 <= response.status < 300:
        return Hint(missing=response.status == 404)
    declared, size = media_type(response), response.content_length or 0
    if _coding(response) in _CODINGS or size > MAX_SIZE:  # the length of the compressed body
        size = 0
    return Hint(digest(response), declared if media.names_manifest(declared) else "", size)
