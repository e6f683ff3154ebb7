"""The transport to an upstream: requests with redirects followed by hand, and faults named."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Self, TypedDict

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import AbstractResolver
from aiohttp.connector import SocketFactoryType
from yarl import URL

import mirror
from mirror.oci.errors import (
    UpstreamFailure,
    UpstreamMisbehaved,
    UpstreamUnavailable,
)
from mirror.upstream.address_policy import AddressPolicy, CheckedResolver, follow
from mirror.upstream.backoff import Topic
from mirror.upstream.connection import ConnectionSettings
from mirror.upstream.connection_queue import ConnectionQueue
from mirror.upstream.errors import PROXY_LOGIN, named_faults
from mirror.upstream.host_health import GATEWAY_FAULTS, HostHealth
from mirror.upstream.leases import Leases
from mirror.upstream.lookups import Lookups
from mirror.upstream.receiver import Connector, NoCookies, Slices
from mirror.util import request_id, trace

_log = logging.getLogger(__name__)

USER_AGENT = f"mirror/{mirror.__version__} (registry pull-through cache)"
MAX_REDIRECTS = 5
# A callback for each request: the response, or None, and the seconds until its headers.
Tell = Callable[[aiohttp.ClientResponse | None, float], None]
Size = Literal["small", "large"]
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PROBE_TIMEOUT = 5.0  # seconds
_LONGEST_FIELD = 300_000  # bytes of one header: curl's limit for all
_MOST_FIELDS = 1000  # headers; Go's clients and curl limit their size only
_READ_BUFFER = 512 * 1024  # bytes that aiohttp buffers while the disk is busy


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Time limits for upstream, in seconds. A whole body has none."""

    connect_timeout: float = 10.0
    silence_timeout: float = 30.0
    answer_timeout: float = 15.0
    resume_timeout: float = 30.0


class _Means(TypedDict):
    allow_redirects: bool
    proxy: URL | None
    ssl: ssl.SSLContext | bool


@dataclass(frozen=True, slots=True)
class _Request:
    """A request, for each host along its redirects."""

    session: aiohttp.ClientSession
    topic: Topic
    method: str
    form: Mapping[str, str] | None

    async def send(
        self, url: URL, headers: Mapping[str, str], means: _Means
    ) -> aiohttp.ClientResponse:
        """Send it to one host; raises aiohttp's exceptions."""
        return await self.session.request(
            self.method, url, headers=headers, data=self.form, **means
        )


class Transport:
    """HTTP to one upstream registry at `own`, its token server and its content networks.

    Large bodies have separate connections, so that they never starve small requests. Names are
    resolved by `resolver` (default: `Lookups`), and sockets made by `sockets` (default: aiohttp's);
    neither is called for anything that the guard refuses. `timer` is that of `HostHealth`.
    """

    def __init__(
        self,
        own: URL,
        timeouts: Timeouts | None = None,
        resolver: AbstractResolver | None = None,
        sockets: SocketFactoryType | None = None,
        connection_settings: ConnectionSettings | None = None,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.timeouts = timeouts or Timeouts()
        self.connection_settings = connection_settings or ConnectionSettings()
        self._own = own.origin()
        self._address_policy = AddressPolicy(own, self.connection_settings.proxies.all)
        self._inner = resolver
        self._sockets = sockets
        self._sessions: dict[Size, aiohttp.ClientSession] = {}
        self._health = HostHealth(self._own, self.timeouts.answer_timeout, self._alive, timer)
        self._slices = Slices()
        self.leases = Leases()
        self._closed = False

    async def __aenter__(self) -> Self:
        inner = self._inner or Lookups(self._own.raw_host or "")
        resolver = CheckedResolver(self._address_policy, inner)
        self._resolver = resolver
        self._sessions = {
            size: self._session(resolver, limit) for size, limit in self._bounds().items()
        }
        bounds = self._bounds()
        self.connection_queue = ConnectionQueue(bounds["small"])
        self.large = asyncio.Semaphore(bounds["large"])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        await self._health.close()
        for session in self._sessions.values():
            await session.close()
        await self._resolver.close()

    def _bounds(self) -> dict[Size, int]:
        """Return the number of connections for each size of request."""
        return {
            "small": self.connection_settings.few,
            "large": max(
                1, self.connection_settings.max_connections - self.connection_settings.few
            ),
        }

    def _session(self, resolver: AbstractResolver, limit: int) -> aiohttp.ClientSession:
        timeout = aiohttp.ClientTimeout(
            total=None,
            sock_connect=self.timeouts.connect_timeout,
            sock_read=self.timeouts.silence_timeout,
        )
        return aiohttp.ClientSession(
            connector=Connector(
                self._slices,
                self.leases,
                limit=limit,
                resolver=resolver,
                socket_factory=self._sockets,
                ssl=self.connection_settings.trusted or True,
            ),
            timeout=timeout,
            headers={hdrs.USER_AGENT: USER_AGENT, hdrs.ACCEPT_ENCODING: "identity"},
            cookie_jar=NoCookies(),
            auto_decompress=False,
            read_bufsize=_READ_BUFFER,
            max_line_size=32 * 1024,  # bytes; signed Locations are long
            max_field_size=_LONGEST_FIELD,
            max_headers=_MOST_FIELDS,
        )

    async def ask(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        tell: Tell,
        size: Size = "small",
        form: Mapping[str, str] | None = None,
        kind: str = "token",
    ) -> aiohttp.ClientResponse:
        """Send a request and follow redirects; the caller closes the response. Calls `tell` once.

        Failures of hosts count for requests of this `kind`, method and path. Authorization is
        dropped once a redirect leaves the origin: content networks refuse it, and must not see it
        (RFC 9110, 15.4). A form, which holds a secret, is not redirected at all. Raises
        UpstreamFailure if no response came.
        """
        if self._closed:
            raise UpstreamUnavailable(f"upstream {url.host} is no longer configured")
        began = time.perf_counter()
        if kind == "token" and url.origin() != self._own:
            self._health.token_server = url.origin()
        response: aiohttp.ClientResponse | None = None
        try:
            with named_faults(url):
                request = _Request(self._sessions[size], Topic.of(kind, method, url), method, form)
                response = await self._follow(request, url, dict(headers))
        finally:
            seconds = time.perf_counter() - began
            if _log.isEnabledFor(logging.DEBUG):
                _log.debug("%s %s: %s", method, self._named(url), _summary(url, response, seconds))
            tell(response, seconds)
        return response

    def _named(self, url: URL) -> str:
        """Name a URL for the log: a query, and another host's path, may have a signature."""
        return f"{url.origin()}{url.raw_path}" if url.origin() == self._own else str(url.origin())

    async def _follow(
        self, request: _Request, url: URL, headers: dict[str, str]
    ) -> aiohttp.ClientResponse:
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._ask_host(request, url, headers)
            if request.form or response.status not in _REDIRECTS:
                return response
            response.release()
            target = follow(url, response.headers.get(hdrs.LOCATION, ""))
            if target.origin() != url.origin():
                headers.pop(hdrs.AUTHORIZATION, None)
            url = target
        raise UpstreamMisbehaved(f"upstream redirects more than {MAX_REDIRECTS} times")

    def down(self, url: URL) -> bool:
        """Whether the circuit breaker of this host is open."""
        return self._health.down(url.origin())

    def well(self, url: URL, kind: str, method: str) -> bool:
        """Whether the host of a URL answers requests of a kind; see `HostHealth.well`."""
        return self._health.well(url.origin(), kind, method)

    def back_off(self, response: aiohttp.ClientResponse, kind: str, url: URL) -> None:
        """Record a host's 429 to a request that began at `url`."""
        self._health.back_off(response, Topic.of(kind, response.method, url))

    async def _ask_host(
        self, request: _Request, url: URL, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        """Send a request to one host, if allowed, and record whether it answered."""
        self._address_policy.check(url)
        origin = url.origin()
        with self._health.attempt(origin, request.topic) as attempt:
            response = await request.send(url, self._with_id(origin, headers), self._means(url))
        if response.status == 407:
            response.release()
            raise UpstreamUnavailable(PROXY_LOGIN)
        self._health.answered(attempt, response.status)
        return response

    def _with_id(self, origin: URL, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Add id and trace of the client's request, for the upstream's own host only."""
        found = request_id.REQUEST.get()
        if not found or origin != self._own:
            return headers
        traced = trace.TRACE.get()
        more = {trace.HEADER: traced} if traced else {}
        return {**headers, request_id.HEADER: found, **more}

    def _means(self, url: URL) -> _Means:
        """Return proxy and TLS context, with the client certificate for the own origin only."""
        shown = self.connection_settings.shown if url.origin() == self._own else None
        return {
            "allow_redirects": False,
            "proxy": self.connection_settings.proxies.of(url),
            "ssl": shown or self.connection_settings.trusted or True,
        }

    async def _alive(self, url: URL) -> bool | None:
        """Whether a host answers a request; None if no connection can be made."""
        session = self._sessions["small"]
        try:
            self._address_policy.check(url)
            async with (
                asyncio.timeout(_PROBE_TIMEOUT),
                session.get(url, **self._means(url)) as response,
            ):
                return response.status not in GATEWAY_FAULTS
        except aiohttp.ClientConnectorError:
            return None
        # TimeoutError is an OSError; UpstreamFailure comes from the guard.
        except (aiohttp.ClientError, OSError, ValueError, UpstreamFailure):
            return False


def _summary(url: URL, response: aiohttp.ClientResponse | None, seconds: float) -> str:
    """Describe a response: its status, seconds, and host if redirected to another."""
    if response is None:
        return f"no answer within {seconds:.3f} s"
    elsewhere = response.url.origin() != url.origin()
    by = f", by {response.url.host}" if elsewhere else ""
    return f"{response.status} after {seconds:.3f} s{by}"
