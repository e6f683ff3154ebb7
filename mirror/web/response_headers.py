"""Response headers, by kind of answer."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from mirror.content.listings.service import Listed
from mirror.content.manifests.result import ManifestResult
from mirror.content.outcome import STALE_TEXTS, Outcome, StaleReason
from mirror.oci import media
from mirror.oci.digest import Digest
from mirror.oci.errors import RegistryError

_CACHE_STATUS = {  # RFC 9211, by the part that upstream had in the answer
    Outcome.HIT: "mirror; hit",
    Outcome.MISS: "mirror; fwd=uri-miss",
    Outcome.REVALIDATED: "mirror; fwd=stale; detail=revalidated",
    Outcome.STALE: "mirror; hit; detail=stale",
    Outcome.ERROR: "mirror; fwd=miss; detail=error",
}
_UNSAFE = str.maketrans(dict.fromkeys([*range(0x20), 0x7F], " "))
_OWN = "Cache-Status: mirror; detail=own\r\n"
_API = (
    "Docker-Distribution-Api-Version: registry/2.0\r\n"
    "X-Content-Type-Options: nosniff\r\n"  # browsers must not guess a type from upstream's bytes
)
_IMMUTABLE = "Cache-Control: max-age=31536000, immutable\r\n"


def lines(headers: dict[str, str]) -> str:
    """Render header lines; control characters, which could end a line early, become spaces."""
    return "".join(f"{name}: {value.translate(_UNSAFE)}\r\n" for name, value in headers.items())


def cache_status(outcome: Outcome, *, collapsed: bool = False) -> str:
    """Return the Cache-Status line: the part that the cache had in an answer."""
    return f"Cache-Status: {_CACHE_STATUS[outcome]}{'; collapsed' if collapsed else ''}\r\n"


def namespace(name: str) -> str:
    """Confirm the upstream that the client named (distribution-spec, "Registry Proxying")."""
    return lines({"OCI-Namespace": name}) if name else ""


def own(content_type: str) -> str:
    """Return the headers of a page of the mirror itself."""
    return _API + lines({"Content-Type": content_type}) + _OWN


def error(failure: RegistryError, outcome: Outcome | None) -> str:
    """Return the headers of an error document."""
    status = cache_status(outcome) if outcome else _OWN
    return _API + lines({"Content-Type": media.JSON, **failure.headers()}) + status


def listing(media_type: str, listed: Listed[Any]) -> str:
    """Return the headers of a listing, with its age and a warning if it is stale."""
    kept = _API + lines({"Content-Type": media_type}) + cache_status(listed.outcome)
    if listed.age is None:
        return kept
    return kept + _stale(
        listed.age, StaleReason.FAULT, ", the tags that clients asked for" * listed.of_known
    )


def manifest(found: ManifestResult) -> str:
    """Return the headers of a manifest, with its age and a warning if it is stale."""
    kept = _manifest(found.descriptor.digest, found.descriptor.media_type, found.outcome)
    if found.age is None:
        return kept
    return kept + _stale(found.age, found.why or StaleReason.FAULT)


def _stale(age: int, why: StaleReason, what: str = "") -> str:
    text = f'299 - "{STALE_TEXTS[why]}: as of {age} s ago{what}"'
    return f"Age: {age}\r\nWarning: {text}\r\n"


def blob(digest: Digest, outcome: Outcome, *, collapsed: bool = False) -> str:
    """Return the headers of a blob."""
    status = cache_status(outcome, collapsed=collapsed)
    return f"{_content(digest, media.BLOB)}{_IMMUTABLE}Accept-Ranges: bytes\r\n{status}"


@lru_cache(maxsize=4096)
def _manifest(digest: Digest, media_type: str, outcome: Outcome) -> str:
    return _content(digest, media_type) + cache_status(outcome)


@lru_cache(maxsize=4096)
def _content(digest: Digest, media_type: str) -> str:
    content = {"Content-Type": media_type, "Docker-Content-Digest": digest, "ETag": f'"{digest}"'}
    return _API + lines(content)


def matches(header: str | None, digest: Digest) -> bool:
    """Whether If-None-Match names this digest: quoted, weak, or bare, as docker sends it."""
    if header is None:
        return False
    tags = (tag.strip().removeprefix("W/").strip('"') for tag in header.split(","))
    return any(tag in (digest, "*") for tag in tags)


def if_range(header: str | None, digest: Digest) -> bool:
    """Whether If-Range allows the range: only the blob's strong ETag does (RFC 9110, 13.1.5)."""
    return header is None or header.strip() == f'"{digest}"'
