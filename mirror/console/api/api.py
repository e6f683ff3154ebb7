"""The API: finds the endpoint of a request, and answers with the result of its order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from aiohttp import hdrs, web

from mirror.admin.archives.archive_source import ArchiveSource
from mirror.admin.json_lines import record_line
from mirror.admin.messages import Imported, ImportOrder, Record, Refused, Work
from mirror.console.api.endpoints import ENDPOINTS, Endpoint
from mirror.console.api.openapi import description
from mirror.console.api.query import invalid
from mirror.console.archive_stream import ArchiveStream
from mirror.console.orders import as_problem
from mirror.console.origin import check_own
from mirror.console.parts import ConsoleParts
from mirror.console.problem import Problem, busy, wrong_method
from mirror.console.reply import ConsoleReply
from mirror.console.request import read_archive, read_body, read_query
from mirror.console.stream import RecordStream
from mirror.console.viewers import Viewer
from mirror.oci.errors import shown
from mirror.util.cooperative import cooperatively
from mirror.web.router import ConsolePath

BASE = "/api/v1"
_IMAGES = "/images/"
_JSON = "application/json"
_AGAIN = 30  # seconds after which a mirror that stops may be there again
_HASHED = 32  # pieces of 32 KiB between two turns of other tasks
_REVALIDATED = "private, no-cache"  # may be kept, and is asked about each time
_ACTIONS = {
    each.path.rpartition("/")[2]: each
    for each in ENDPOINTS
    if each.path.startswith("/images/{image}/")
}
_EXACT = {(each.method, each.path): each for each in ENDPOINTS if "{" not in each.path}
_SHOW = next(each for each in ENDPOINTS if each.path == "/images/{image}")


class Api:
    """Answers requests below `/api/v1`."""

    def __init__(self, parts: ConsoleParts) -> None:
        self._parts = parts

    async def answer(
        self, request: web.BaseRequest, path: ConsolePath, viewer: Viewer
    ) -> ConsoleReply | RecordStream | ArchiveStream:
        """Answer a request; raises Problem."""
        if path.path == f"{BASE}/openapi.json":
            return _described(request)
        method = "GET" if request.method == "HEAD" else request.method
        endpoint, image = _endpoint(method, path.path.removeprefix(BASE))
        if endpoint.acts:
            return await self._act(request, path, viewer, endpoint, image)
        if endpoint.guarded:
            viewer.need_act(f"mirror {endpoint.path.strip('/')}")
            check_own(request)
        values = endpoint.values(read_query(path.query))
        order = endpoint.read(values, image)
        if endpoint.archive:
            return await self._archive(request, order, viewer)
        result = await self._parts.orders.see(order, viewer, endpoint.result)
        links = _next_page(path, values, result) if endpoint.paged else {}
        return await _document(request, result, links)

    async def _act(
        self,
        request: web.BaseRequest,
        path: ConsolePath,
        viewer: Viewer,
        endpoint: Endpoint,
        image: str,
    ) -> ConsoleReply | RecordStream:
        """Carry out an operator's order; a stream is refused as a problem, too, if at once."""
        action = endpoint.path.rpartition("/")[2]
        viewer.need_act(f"mirror {action} {image}".rstrip())
        values = endpoint.values(read_query(path.query))
        if endpoint.body:
            values |= _members(await read_body(request))
        order = endpoint.read(values, image)
        orders = self._parts.orders
        if endpoint.takes_archive:
            return await _document(request, await self._take_in(request, order, viewer), {})
        if not endpoint.stream:
            result = await orders.act(order, viewer, endpoint.result)
            return await _document(request, result, {})
        records = orders.records(order, viewer)
        return RecordStream(_from(await _first(records), records))

    async def _take_in(self, request: web.BaseRequest, order: Work, viewer: Viewer) -> Imported:
        """Import the archive that is the body of a request; raises Problem."""
        orders = self._parts.orders
        name = order.name if isinstance(order, ImportOrder) else ""
        body = read_archive(request)
        try:
            async with orders.transfers.ended_by_stop(), ArchiveSource(*body, name) as source:
                return await orders.act(order, viewer, Imported, source)
        except TimeoutError:
            raise busy("the mirror is stopping: the import was broken off", _AGAIN) from None

    async def _archive(
        self, request: web.BaseRequest, order: Work, viewer: Viewer
    ) -> ArchiveStream:
        """Return the content of an export, which has begun; raises Problem."""
        orders = self._parts.orders
        records = orders.records(order, viewer)
        first = await _first(records)
        if request.method == "HEAD":
            await records.aclose()
        return ArchiveStream(_from(first, records), orders.transfers)


async def _first(records: AsyncGenerator[Record, None]) -> Record:
    """Return the first record of an order; raises Problem if the order cannot begin."""
    first = await anext(records, Refused("the mirror gave no answer", "failed"))
    if isinstance(first, Refused):
        await records.aclose()
        raise as_problem(first)
    return first


async def _from(
    first: Record, records: AsyncGenerator[Record, None]
) -> AsyncGenerator[Record, None]:
    try:
        yield first
        async for record in records:
            yield record
    finally:
        await records.aclose()


def _endpoint(method: str, path: str) -> tuple[Endpoint, str]:
    """Return the endpoint of a method and path, and the image in it; raises Problem."""
    found = _EXACT.get((method, path))
    if found is not None:
        return found, ""
    allowed = [each for each, at in _EXACT if at == path]
    if not allowed and path.startswith(_IMAGES):
        return _of_image(method, path.removeprefix(_IMAGES))
    if not allowed:
        known = ", ".join(sorted({f"{BASE}{each.path}" for each in ENDPOINTS}))
        raise Problem(
            HTTPStatus.NOT_FOUND,
            f"the API has no path {shown(BASE + path)}; it has {known}: "
            f"{BASE}/openapi.json describes them",
        )
    raise wrong_method(method, *(("GET", "HEAD") if "GET" in allowed else allowed))


def _of_image(method: str, path: str) -> tuple[Endpoint, str]:
    if method == "GET":
        return _SHOW, path
    image, _, action = path.rpartition("/")
    if method == "POST" and image and action in _ACTIONS:
        return _ACTIONS[action], image
    actions = ", ".join(f".../{each}" for each in sorted(_ACTIONS))
    raise wrong_method(method, "GET", "HEAD", hint=f"; POST to {actions} is")


def _members(body: bytes) -> Mapping[str, Any]:
    """Read the JSON object of a body; raises Problem."""
    if not body:
        return {}
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise invalid("expected a body that is a JSON object, in UTF-8") from None
    if not isinstance(document, dict):
        raise invalid("expected a body that is a JSON object")
    return document


async def _document(
    request: web.BaseRequest,
    result: Any,  # noqa: ANN401 - any record
    headers: Mapping[str, str],
) -> ConsoleReply:
    """Return a result as JSON, written in turns; 304 if the client has it."""
    pieces = [piece async for piece in cooperatively(record_line(result), 1)]
    body = b"".join(pieces)
    digest = hashlib.sha256()
    async for piece in cooperatively(pieces, _HASHED):
        digest.update(piece)
    return _tagged(request, body, digest.hexdigest(), headers)


def _tagged(
    request: web.BaseRequest, body: bytes, digest: str, headers: Mapping[str, str]
) -> ConsoleReply:
    etag = f'W/"{digest[:32]}"'  # weak: the compressed form has other bytes
    more = {**headers, hdrs.ETAG: etag}
    known = request.headers.get(hdrs.IF_NONE_MATCH, "")
    if request.method in ("GET", "HEAD") and _has(known, etag):
        return ConsoleReply(b"", _JSON, 304, cache=_REVALIDATED, headers=more)
    return ConsoleReply(body, _JSON, cache=_REVALIDATED, headers=more)


def _has(known: str, etag: str) -> bool:
    """Whether If-None-Match has an entity tag, by weak comparison (RFC 9110, 13.1.2)."""
    tags = (tag.strip().removeprefix("W/") for tag in known.split(","))
    return any(tag in ("*", etag.removeprefix("W/")) for tag in tags)


def _next_page(path: ConsolePath, values: Mapping[str, Any], result: Any) -> dict[str, str]:  # noqa: ANN401
    """Return the Link to the next page, if there is one (RFC 8288)."""
    if result.after is None:
        return {}
    query = urlencode({**values, "after": result.after})
    return {hdrs.LINK: f'<{quote(path.path)}?{query}>; rel="next"'}


def _described(request: web.BaseRequest) -> ConsoleReply:
    if request.method not in ("GET", "HEAD"):
        raise wrong_method(request.method, "GET", "HEAD")
    body = description()
    return _tagged(request, body, hashlib.sha256(body).hexdigest(), {})
