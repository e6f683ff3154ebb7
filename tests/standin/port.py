"""A port: one listening address, which records requests, answers them, and applies faults."""

import re
import socket
from collections.abc import Callable, Mapping
from typing import Protocol

from aiohttp import web

from .answers import Answer, instead, text, with_body_of
from .faults import HTML, Fault, Faults
from .journal import Journal, Seen
from .line import Line
from .sending import Sending

ROBOT = re.compile(r"|Python/\S+ aiohttp/\S+")
HEADER_LIMIT = 64 * 1024
NO_FAULT = Fault(times=None)


class Site(Protocol):
    """The answers of a port."""

    def read(self, serial: int, method: str, target: str, headers: Mapping[str, str]) -> Seen:
        """Parse a request for the journal."""

    def challenge(self, seen: Seen) -> Answer | None:
        """Return the answer that refuses the request, if the site refuses it."""

    def answer(self, seen: Seen) -> Answer:
        """Answer an authorized request."""


class Port:
    """Serves a site on an address that stays reserved while the port is down.

    `aside` may answer requests to the stand-in itself; these are not recorded.
    """

    def __init__(
        self,
        site: Site,
        journal: Journal,
        faults: Faults,
        line: Line | None = None,
        aside: Callable[[str, str], Answer | None] = lambda _method, _path: None,
    ) -> None:
        self._site = site
        self._journal = journal
        self._faults = faults
        self._line = line
        self._aside = aside
        self._runner: web.ServerRunner | None = None
        self._socket: socket.socket | None = None
        self.address = ("", 0)

    @property
    def number(self) -> int:
        """The TCP port."""
        return self.address[1]

    def reserve(self, host: str, number: int = 0) -> None:
        """Bind the address, so that connections to it are refused until `up`."""
        self._socket = socket.socket(socket.AF_INET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((host, number))
        self.address = self._socket.getsockname()

    async def up(self) -> None:
        """Accept connections."""
        if self._runner or not self._socket:
            return
        server = web.Server(
            self._handle,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=75.0,
            max_line_size=HEADER_LIMIT,
            max_field_size=HEADER_LIMIT,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket, backlog=1024).start()

    async def down(self) -> None:
        """Break every connection and refuse new ones."""
        await self.close()
        self.reserve(*self.address)

    async def close(self) -> None:
        """Break every connection and release the address."""
        if self._runner:
            for site in self._runner.sites:
                await site.stop()
            self._abort_connections()
            await self._runner.cleanup()
            self._runner = None
        if self._socket:
            self._socket.close()

    def _abort_connections(self) -> None:
        if self._runner and self._runner.server:
            for connection in self._runner.server.connections:
                if connection.transport:
                    connection.transport.abort()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        if aside := self._aside(request.method, path):
            return await Sending(request, aside, NO_FAULT, None, lambda _: None).run()
        seen = self._site.read(
            self._journal.next_serial(), request.method, request.raw_path, joined(request)
        )
        self._journal.note(seen)
        try:
            return await self._respond(request, seen)
        except ConnectionError:
            return _hung_up(request)
        finally:
            self._journal.finish(seen.serial)

    async def _respond(self, request: web.BaseRequest, seen: Seen) -> web.StreamResponse:
        refusal = _refuse_robot(seen) or self._site.challenge(seen)
        fault = self._faults.strike(seen, at_door=refusal is not None) or NO_FAULT
        if fault.hang:
            await fault.wait()
        if fault.drop:
            raise ConnectionAbortedError("a fault of the stand-in")
        answer = instead(fault, f"http://{request.host}{request.raw_path}") or refusal
        if answer is None:
            answer = with_body_of(fault, self._site.answer(seen))
        if seen.method == "GET" and not fault.ignore_range:
            answer = answer.part(seen.range)
        answer = answer.with_headers(fault.headers)
        self._journal.answering(seen.serial, answer.status, answer.digest, counted=answer.counted)
        line = self._line if seen.kind == "blob" and answer.digest else None
        return await Sending(
            request, answer, fault, line, lambda count: self._journal.sent(seen.serial, count)
        ).run()

    def __repr__(self) -> str:
        return f"<Port {self.number}: {'up' if self._runner else 'down'}>"


def joined(request: web.BaseRequest) -> dict[str, str]:
    """Return the headers by lower-case name, repeated ones joined."""
    return {name.lower(): ", ".join(request.headers.getall(name)) for name in request.headers}


def _refuse_robot(seen: Seen) -> Answer | None:
    """Refuse a client without a User-Agent, or with aiohttp's, as Cloudflare does."""
    if not ROBOT.fullmatch(seen.headers.get("user-agent", "")):
        return None
    return text(403, HTML, "text/html; charset=UTF-8")


def _hung_up(request: web.BaseRequest) -> web.StreamResponse:
    if request.transport:
        request.transport.abort()
    gone = web.StreamResponse()
    gone.force_close()
    return gone
