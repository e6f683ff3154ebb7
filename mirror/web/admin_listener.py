"""The separate address of the page and the API: `admin_listen`, without the registry API."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from mirror.oci.errors import RegistryError
from mirror.util.request_id import HEADER, RequestIds
from mirror.web.auth.browsers import Browsers
from mirror.web.connections.certificate import Certificate
from mirror.web.connections.client_connections import ClientConnections
from mirror.web.connections.http_protocol import Listener
from mirror.web.connections.shutdown import CUT, Grace, end
from mirror.web.connections.site import Site
from mirror.web.connections.trusted_proxies import TrustedProxies
from mirror.web.console import Console, EventReply
from mirror.web.error_reply import refusal
from mirror.web.reply import Reply
from mirror.web.request_keys import REQUEST_ID, ROUTE
from mirror.web.router import StatusPath, read_own
from mirror.web.status_pages import StatusPages

_log = logging.getLogger(__name__)

_MOST = 256  # connections
_IDLE = 75.0  # seconds without a whole request
_GRACE = 1.0  # seconds that a running answer has at the end, at most


@asynccontextmanager
async def administering(
    listener: socket.socket | None,
    *,
    console: Console,
    status_pages: StatusPages,
    browsers: Browsers,
    recorder: Callable[[ClientConnections], type[AbstractAccessLogger]],
    trusted_proxies: TrustedProxies | None,
    certificate: Certificate | None,
    hurry: asyncio.Event,
) -> AsyncIterator[None]:
    """Serve the page, the API and the status pages while the context lasts, if on a listener.

    `recorder` makes the hook that logs and counts replies; `hurry` cuts the answers that still run
    at the end.
    """
    if listener is None:
        yield
        return

    async def answer(request: web.BaseRequest) -> Reply:
        connections.busy(request)
        request[REQUEST_ID] = ids.take(request.headers.get(HEADER))
        try:
            route = request[ROUTE] = read_own(request.raw_path)
            if isinstance(route, StatusPath):
                browsers.check(request)
                return await status_pages.watch(request)
        except RegistryError as error:
            return refusal(error)
        reply = await console.answer(request, route)
        if isinstance(reply, EventReply):  # makes room like an idle connection
            connections.rest(request)
        return reply

    connections = ClientConnections(_MOST, trusted_proxies=trusted_proxies)
    ids = RequestIds()
    server = Listener(
        answer,
        connections,
        ids,
        access_log=_log,
        access_log_class=recorder(connections),
        keepalive_timeout=_IDLE,
        lingering_time=0,
    )
    runner = web.ServerRunner(server, shutdown_timeout=CUT)
    await runner.setup()
    try:
        await Site(runner, listener, connections, certificate).start()
        yield
    finally:
        await end(runner, connections, Grace(_GRACE, hurry), _log.debug)
