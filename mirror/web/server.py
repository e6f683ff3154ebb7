"""The listening side: every request in, one reply out, each of them logged and counted."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from mirror.cache.outcome import Outcome
from mirror.oci.errors import (
    BlobUnknown,
    Denied,
    ManifestUnknown,
    NameUnknown,
    RegistryError,
    RequestInvalid,
    Unsupported,
    UpstreamFailure,
    shown,
)
from mirror.web import fields
from mirror.web.access import AccessLog, line_of
from mirror.web.api import RegistryApi
from mirror.web.metrics import Metrics
from mirror.web.own import OwnPages
from mirror.web.reply import Reply
from mirror.web.route import BlobPath, ManifestPath, Own, Route, Router, TagsPath

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
_log = logging.getLogger(__name__)

_BACKLOG = 4096
_KEEPALIVE = 75.0  # seconds
_MAX_LINE = 16 * 1024  # bytes of a request line or a header
# Unsent bytes that the kernel queues per connection. Without it, megabytes wait there, copies
# leave the CPU's cache, and a slow reader pins memory (measured: 2.6 GB/s before, 3.1-4.0 after).
_TCP_NOTSENT_LOWAT = 25
_UNSENT = 128 * 1024


class Server:
    """Answers requests for the parts that know how."""

    def __init__(
        self, router: Router, api: RegistryApi, own: OwnPages, metrics: Metrics, log: AccessLog
    ) -> None:
        self._router = router
        self._api = api
        self._own = own
        self._metrics = metrics
        self._log = log

    def runner(self, grace: float) -> web.ServerRunner:
        """Return what listens: `grace` is how long, in seconds, transfers may go on at the end."""
        server = _Listener(
            self.handle,
            access_log=_log,
            access_log_class=_hook(self._done),
            keepalive_timeout=_KEEPALIVE,
            max_line_size=_MAX_LINE,
            max_field_size=_MAX_LINE,
            auto_decompress=False,
        )
        return web.ServerRunner(server, shutdown_timeout=grace)

    async def handle(self, request: web.BaseRequest) -> Reply:
        """Answer one request; nothing that goes wrong leaves without an error document."""
        try:
            return await self._answer(request)
        except RegistryError as error:
            return _refusal(error)
        except Exception:  # noqa: BLE001 - the last resort, and it is logged
            _log.exception("a request failed in a way nobody foresaw: %s", shown(request.raw_path))
            return _refusal(RegistryError("the mirror failed; its log has the reason"))

    async def _answer(self, request: web.BaseRequest) -> Reply:
        if request.method not in ("GET", "HEAD"):
            raise Unsupported(f"{request.method} is not for a mirror: it can be pulled from, only")
        route = self._router.read(request.raw_path)
        if isinstance(route, ManifestPath):
            return await self._api.manifest(request, route)
        if isinstance(route, BlobPath):
            return await self._api.blob(request, route)
        if isinstance(route, Own):
            return self._own.get(route.name)
        if isinstance(route, TagsPath):
            return await self._api.tags(route)
        return await self._api.referrers(request, route)

    def _done(self, request: web.BaseRequest, reply: web.StreamResponse, seconds: float) -> None:
        """Log and count a reply, its last byte sent or not."""
        if not isinstance(reply, Reply):  # aiohttp's own, to what is not HTTP
            self._metrics.request("other", Outcome.ERROR, 0, seconds)
            return
        route = self._route(request)
        line = line_of(request, reply, route, seconds)
        self._log.add(line)
        sent = reply.sent if reply.status < 400 else 0
        self._metrics.request(line.kind, reply.outcome, sent, seconds)

    def _route(self, request: web.BaseRequest) -> Route | None:
        try:
            return self._router.read(request.raw_path)
        except RegistryError:
            return None


class _Protocol(web.RequestHandler):
    """Gives what is not HTTP an error document too."""

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - as aiohttp has it
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer and end the connection: who knows where the next request begins."""
        if status != 400:
            return _refusal(RegistryError(message or "the mirror failed"), last=True)
        reason = type(exc).__name__ if exc else message
        return _refusal(RequestInvalid(f"not a request that HTTP allows: {reason}"), last=True)


class _Listener(web.Server):
    """Makes a protocol for each connection."""

    def __init__(self, handler: Handler, **options: Any) -> None:  # noqa: ANN401 - aiohttp's
        super().__init__(handler, **options)
        self._options = options

    def __call__(self) -> _Protocol:
        return _Protocol(self, loop=asyncio.get_running_loop(), **self._options)


def listen(host: str, port: int) -> socket.socket:
    """Bind and listen; raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _UNSENT)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def _outcome(error: RegistryError) -> Outcome | None:
    """Tell a failure from an upstream's answer that there is no such thing, and from our own."""
    if isinstance(error, UpstreamFailure) or error.status >= 500:
        return Outcome.ERROR
    if isinstance(error, ManifestUnknown | BlobUnknown | NameUnknown | Denied):
        return Outcome.MISS
    return None


def _refusal(error: RegistryError, *, last: bool = False) -> Reply:
    body, outcome = error.body(), _outcome(error)
    return Reply(
        error.status,
        fields.error(error, outcome),
        length=len(body),
        body=body,
        outcome=outcome,
        cause=error.message,
        last=last,
    )


def _hook(
    done: Callable[[web.BaseRequest, web.StreamResponse, float], None],
) -> type[AbstractAccessLogger]:
    """Make aiohttp's access logger, the one hook that runs after the body, call `done`."""

    class Hook(AbstractAccessLogger):
        def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
            done(request, response, time)

    return Hook
