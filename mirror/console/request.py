"""A request to the console, as its pages see it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qs

from aiohttp import hdrs, web

from mirror.console.problem import Problem
from mirror.console.viewers import Viewer
from mirror.web.connections.request_body import MOST, body_of

_FIELDS = 100  # of a query or a form
_PATIENCE = 10.0  # seconds for a body of 64 KiB
_PIECE_PATIENCE = 60.0  # seconds for the next bytes of a long body
_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class ConsoleRequest:
    """A request: the decoded `path`, the last value of each field of query and form, the viewer.

    `host` is the name that the client used, `scheme` is http or https. `raw` is for the parts that
    need a header.
    """

    method: str
    path: str
    query: Mapping[str, str]
    form: Mapping[str, str]
    viewer: Viewer
    host: str
    scheme: str
    raw: web.BaseRequest


def read_query(query: str) -> dict[str, list[str]]:
    """Parse a query or a form; raises Problem."""
    try:
        return parse_qs(query, keep_blank_values=True, max_num_fields=_FIELDS, errors="strict")
    except ValueError:
        raise Problem(
            HTTPStatus.BAD_REQUEST, f"expected at most {_FIELDS} fields, in UTF-8"
        ) from None


def last_values(fields: Mapping[str, list[str]]) -> dict[str, str]:
    """Return the last value of each field."""
    return {name: values[-1] for name, values in fields.items()}


async def read_body(request: web.BaseRequest) -> bytes:
    """Read the body of an operator's request; raises Problem, or ConnectionResetError."""
    if hdrs.TRANSFER_ENCODING in request.headers:
        raise Problem(HTTPStatus.LENGTH_REQUIRED, "expected a body with a Content-Length")
    body = body_of(request)
    if body is None and request.headers.get(hdrs.CONTENT_LENGTH, "0").strip() == "0":
        return b""
    if body is None or body.size is None or body.size > MOST:
        raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected at most {MOST} bytes")
    words = f"the body did not arrive within {_PATIENCE:g} s"
    return await _in_time(body.read(), _PATIENCE, words)


def read_archive(
    request: web.BaseRequest,
) -> tuple[Callable[[], Awaitable[bytes]], int | None]:
    """Return a reader of the body of an operator's request, and its size if that is known.

    The reader returns the next bytes, b"" at the end; it raises Problem, ConnectionResetError.
    Raises Problem for a request without a body.
    """
    body = body_of(request)
    if body is None or body.size == 0:
        raise Problem(HTTPStatus.BAD_REQUEST, "expected a body that is a tar archive")

    words = f"nothing of the body came for {_PIECE_PATIENCE:g} s"
    return lambda: _in_time(body.next(), _PIECE_PATIENCE, words), body.size


async def _in_time(reading: Awaitable[bytes], patience: float, words: str) -> bytes:
    """Return the bytes that are read; raises Problem with these words after `patience` seconds."""
    try:
        async with asyncio.timeout(patience):
            return await reading
    except TimeoutError:
        raise Problem(HTTPStatus.REQUEST_TIMEOUT, words) from None


async def read_form(request: web.BaseRequest) -> dict[str, str]:
    """Read the fields of a form; raises Problem, or ConnectionResetError."""
    body = await read_body(request)
    if not body:
        return {}
    if request.headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip().lower() != _FORM:
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"expected a form: {_FORM}")
    return last_values(read_query(body.decode("latin-1")))
