"""The separate address for monitoring: `listen_metrics`, without the registry API."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from mirror.oci.errors import NotAllowed
from mirror.util.request_id import HEADER, RequestIds
from mirror.web.auth.browsers import Browsers
from mirror.web.connections.client_connections import ClientConnections
from mirror.web.connections.http_protocol import Listener
from mirror.web.connections.shutdown import CUT, Grace, end
from mirror.web.error_reply import refusal
from mirror.web.reply import Reply
from mirror.web.request_keys import REQUEST_ID
from mirror.web.status_pages import StatusPages

_log = logging.getLogger(__name__)

_MOST = 64  # connections
_IDLE = 75.0  # seconds without a whole request
_GRACE = 1.0  # seconds that a running answer has at the end, at most


@asynccontextmanager
async def watching(
    listener: socket.socket | None,
    status_pages: StatusPages,
    browsers: Browsers,
    hurry: asyncio.Event,
) -> AsyncIterator[None]:
    """Serve the mirror's own pages while the context lasts, on a listener if there is one.

    `hurry` cuts the answers that still run at the end.
    """
    if listener is None:
        yield
        return

    async def answer(request: web.BaseRequest) -> Reply:
        connections.busy(request)
        request[REQUEST_ID] = ids.take(request.headers.get(HEADER))
        try:
            browsers.check(request)
            return await status_pages.watch(request)
        except NotAllowed as error:
            return refusal(error)
        finally:
            connections.rest(request)

    connections, ids = ClientConnections(_MOST), RequestIds()
    server = Listener(
        answer, connections, ids, access_log=None, keepalive_timeout=_IDLE, lingering_time=0
    )
    runner = web.ServerRunner(server, shutdown_timeout=CUT)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        yield
    finally:
        await end(runner, connections, Grace(_GRACE, hurry), _log.debug)
