"""The control socket: an operator's orders to the running daemon, on this machine only."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from aiohttp import ClientConnectionError, web

from mirror.admin.action_log import LoggedAction
from mirror.admin.incoming import MAX_ORDER, PATIENCE, Incoming
from mirror.admin.json_lines import read_order, record_line
from mirror.admin.messages import Content, OrderError, Record, Refused
from mirror.admin.service import AdminService
from mirror.admin.socket_path import SOCKET, short_path
from mirror.util.cooperative import cooperatively

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
    async def orders(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/jsonl"})
        await response.prepare(request)
        # The order ends with its connection.
        with contextlib.suppress(ClientConnectionError):
            async with aclosing(_records(service, Incoming(request.content))) as records:
                await _answer(request, response, records)
            await response.write_eof()
        return response

    async def health(request: web.Request) -> web.Response:
        wrong = await trouble() if request.path == "/readyz" else None
        return web.Response(status=503 if wrong else 200, text=f"{wrong or 'ok'}\n")

    app = web.Application(client_max_size=MAX_ORDER)
    app.router.add_post("/orders", orders)
    app.router.add_get("/healthz", health)
    app.router.add_get("/readyz", health)
    return app


async def _answer(
    request: web.Request, response: web.StreamResponse, records: AsyncIterator[Record]
) -> None:
    """Write records; raises ClientConnectionError if the command has gone, or reads no content.

    Content is kept from eviction while it is read. A list has the time of its reader: it may be
    in a pager.
    """
    patience: float | None = None
    async for record in records:
        if isinstance(record, Content):
            patience = PATIENCE
        async for piece in cooperatively(record_line(record), 1):
            try:
                async with asyncio.timeout(patience):
                    await response.write(piece)
            except TimeoutError:
                _log.warning("an order ends: its command took no content for %g s", patience)
                if request.transport is not None:
                    request.transport.abort()
                raise ClientConnectionError from None


async def _records(service: AdminService, incoming: Incoming) -> AsyncGenerator[Record, None]:
    try:
        order = read_order(await incoming.order())
    except OrderError as error:
        yield Refused(str(error))
        return
    try:
        with LoggedAction(order) as action:
            async with aclosing(service.carry_out(order, incoming.records())) as records:
                async for record in records:
                    action.last = record
                    yield record
    except Exception:  # noqa: BLE001 - the last resort, and it is logged
        _log.exception("unexpected failure of an order: %s", order)
        yield Refused("the mirror failed; its log has the reason", "failed")
