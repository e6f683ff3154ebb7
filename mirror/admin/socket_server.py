"""The control socket: an operator's orders to the running daemon, on this machine only."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from mirror.admin.service import AdminService
from mirror.admin.socket_path import SOCKET, short_path
from mirror.util.deferred import Deferred

if TYPE_CHECKING:
    from mirror.admin.order_requests import OrderRequests

_log = logging.getLogger(__name__)

_AGAIN = 5.0  # seconds between attempts to create the socket
_GRACE = 0.1  # seconds that a running order gets at the end


@asynccontextmanager
async def controlled(
    folder: Path,
    service: AdminService,
    trouble: Callable[[], Awaitable[str | None]],
) -> AsyncIterator[None]:
    """Accept orders on a socket in a data folder, which must be locked, while the context lasts.

    `trouble` returns the reason why the mirror cannot serve, for `mirror healthcheck`.

    If the socket cannot be created (the disk is full), the daemon runs without it and tries again:
    pulls matter more.
    """
    runner = web.AppRunner(_app(service, trouble), access_log=None, shutdown_timeout=_GRACE)
    await runner.setup()
    later: asyncio.Task[None] | None = None
    try:
        if (wrong := await _take_orders(runner, folder)) is not None:
            _log.error("cannot take orders on %s: %s", folder / SOCKET, wrong.strerror)
            later = asyncio.create_task(_take_orders_later(runner, folder))
        yield
    finally:
        if later is not None:
            later.cancel()
            await asyncio.wait([later])
        with contextlib.suppress(OSError):  # a failing disk must not prevent the stop
            (folder / SOCKET).unlink(missing_ok=True)
        await runner.cleanup()


async def _take_orders(runner: web.AppRunner, folder: Path) -> OSError | None:
    """Listen for orders; returns the error if that failed."""
    try:
        listener = _listen(folder)
    except OSError as error:
        return error
    await web.SockSite(runner, listener).start()
    return None


async def _take_orders_later(runner: web.AppRunner, folder: Path) -> None:
    """Try again until the socket listens: freeing space on a full disk may take an order."""
    while True:
        await asyncio.sleep(_AGAIN)
        if await _take_orders(runner, folder) is None:
            _log.info("takes orders on %s again", folder / SOCKET)
            return


def _listen(folder: Path) -> socket.socket:
    """Listen for the daemon's own user only; raises OSError."""
    (folder / SOCKET).unlink(missing_ok=True)  # left by a crash: the folder's lock is held
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_path(folder) as path:
            listener.bind(path)
            Path(path).chmod(0o600)  # no client can connect before it listens
        listener.listen()
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _app(
    service: AdminService,
    trouble: Callable[[], Awaitable[str | None]],
) -> web.Application:
    def build() -> OrderRequests:
        from mirror.admin.order_requests import OrderRequests

        return OrderRequests(service)

    requests = Deferred(build)

    async def orders(request: web.Request) -> web.StreamResponse:
        return await (await requests.get()).answer(request)

    async def health(request: web.Request) -> web.Response:
        wrong = await trouble() if request.path == "/readyz" else None
        return web.Response(status=503 if wrong else 200, text=f"{wrong or 'ok'}\n")

    app = web.Application()
    app.router.add_post("/orders", orders)
    app.router.add_get("/healthz", health)
    app.router.add_get("/readyz", health)
    return app
