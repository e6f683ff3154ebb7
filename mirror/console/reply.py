"""Replies of the console: with its security headers, and compressed for clients that take that."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Self

from aiohttp import hdrs, web

from mirror.web import response_headers
from mirror.web.reply import Reply

HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
NO_STORE = "no-store"
IMMUTABLE = "public, max-age=31536000, immutable"  # for a name with a hash of its content
_SECURITY = response_headers.lines(
    {
        "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
        "connect-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; "
        "base-uri 'none'",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        # With no-referrer, a browser sends `Origin: null` with the page's own form.
        "Referrer-Policy": "same-origin",
        "Cache-Status": "mirror; detail=own",
    }
)
_SMALL = 1024  # bytes that are not worth compressing
_LONG = 64 * 1024  # bytes that take the event loop milliseconds to compress
_LEVEL = 6
_PLAIN_TYPES = ("text/", "application/", "image/svg+xml")


@dataclass(frozen=True, slots=True)
class ConsoleReply:
    """One answer: its body, type and status; `cache` is its Cache-Control."""

    body: bytes = b""
    media_type: str = HTML
    status: int = 200
    cache: str = NO_STORE
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def text(cls, text: str, status: int = 200) -> Self:
        """Return plain text."""
        return cls(text.encode("utf-8", "backslashreplace"), TEXT, status)

    @classmethod
    def html(cls, text: str, status: int = 200) -> Self:
        """Return a page."""
        return cls(text.encode("utf-8", "backslashreplace"), HTML, status)

    @classmethod
    def see_other(cls, path: str) -> Self:
        """Return a redirect to a page, after an action or a login."""
        return cls(b"", TEXT, 303, headers={hdrs.LOCATION: path})


async def rendered(reply: ConsoleReply, request: web.BaseRequest, cause: str = "") -> Reply:
    """Return the reply to send; a `cause` is for the log."""
    body, more = reply.body, dict(reply.headers)
    if reply.media_type.startswith(_PLAIN_TYPES):
        more[hdrs.VARY] = hdrs.ACCEPT_ENCODING
        if len(body) > _SMALL and takes_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, "")):
            body = await _compressed(body)
            more[hdrs.CONTENT_ENCODING] = "gzip"
    head = head_lines(reply.media_type, reply.cache, more)
    return Reply(reply.status, head, length=len(body), body=body, cause=cause)


def head_lines(media_type: str, cache: str, more: Mapping[str, str]) -> str:
    """Return the header lines of an answer."""
    own = {hdrs.CONTENT_TYPE: media_type, hdrs.CACHE_CONTROL: cache, **more}
    return response_headers.lines(own) + _SECURITY


async def _compressed(body: bytes) -> bytes:
    compress = partial(gzip.compress, body, _LEVEL, mtime=0)
    return compress() if len(body) < _LONG else await asyncio.to_thread(compress)


def takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding header allows gzip (RFC 9110, 12.5.3)."""
    for element in accepted.lower().split(","):
        coding, _, weight = element.partition(";")
        if coding.strip() in ("gzip", "*"):
            return weight.strip().replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
