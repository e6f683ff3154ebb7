"""The health of an upstream's hosts: their failures and rate limits, and probes of failed hosts."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass

import aiohttp
from cachetools import LRUCache
from yarl import URL

from mirror.oci.errors import TooManyRequests, UpstreamDown
from mirror.upstream.backoff import Backoff, Topic
from mirror.upstream.circuit_breaker import CircuitBreaker
from mirror.upstream.telemetry import read_retry_after

_log = logging.getLogger(__name__)

GATEWAY_FAULTS = frozenset({502, 503, 504})  # faults of a whole host, not of one name
_HOSTS = 1024  # hosts with remembered failures


@dataclass(frozen=True, slots=True)
class HostAttempt:
    """A request that is being sent to one host."""

    origin: URL
    topic: Topic
    breaker: CircuitBreaker


class HostHealth:
    """The circuit breakers and backoffs of the hosts of one upstream; `own` is its own origin.

    Each origin (scheme, host and port) counts as a host. `probe` sends a free request to a host: it
    returns whether the host answers, None if no connection can be made. A request that was
    cancelled after a fourth of `answer_timeout` (seconds) counts as one without an answer. `timer`
    is monotonic, in seconds: it counts the rests of hosts.
    """

    def __init__(
        self,
        own: URL,
        answer_timeout: float,
        probe: Callable[[URL], Awaitable[bool | None]],
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._own = own
        self._answer_timeout = answer_timeout
        self._probe = probe
        self._breakers: LRUCache[URL, CircuitBreaker] = LRUCache(_HOSTS)
        self._timer = timer
        self._backoff = Backoff(timer)
        self._probes: dict[URL, asyncio.Task[None]] = {}
        self.token_server: URL | None = None  # the last one in use

    def __repr__(self) -> str:
        return f"<HostHealth: {len(self._breakers)} hosts, {len(self._probes)} being probed>"

    async def close(self) -> None:
        """Stop probing."""
        for probe in self._probes.values():
            probe.cancel()
        await asyncio.gather(*self._probes.values(), return_exceptions=True)

    def down(self, origin: URL) -> bool:
        """Whether the circuit breaker of this host is open."""
        breaker = self._breakers.get(origin)
        return breaker is not None and breaker.open

    def well(self, origin: URL, kind: str, method: str) -> bool:
        """Whether a host answers requests of a kind: its breaker is closed, and none is resting."""
        return not self.down(origin) and not self._backoff.rests(origin, kind, method)

    @contextmanager
    def attempt(self, origin: URL, topic: Topic) -> Iterator[HostAttempt]:
        """Record the failures of a request to a host, unless the host is resting.

        Raises UpstreamDown or TooManyRequests then.
        """
        attempt = HostAttempt(origin, topic, self._breakers.setdefault(origin, CircuitBreaker()))
        self._refuse_resting(attempt)
        began = time.monotonic()
        try:
            yield attempt
        except (TimeoutError, asyncio.CancelledError):
            # A cancelled request of an impatient client says nothing about the host.
            if time.monotonic() - began > self._answer_timeout / 4:
                self._failed(attempt, opened=attempt.breaker.failed(topic, silent=True))
            raise
        except aiohttp.ClientConnectorError:
            self._failed(attempt, opened=attempt.breaker.unreachable())
            raise
        except (aiohttp.ClientConnectionError, OSError):
            self._failed(attempt, opened=attempt.breaker.failed(topic, silent=False))
            raise

    def answered(self, attempt: HostAttempt, status: int) -> None:
        """Record the status of a host's response."""
        if status in GATEWAY_FAULTS:
            self._failed(attempt, opened=attempt.breaker.failed(attempt.topic, silent=False))
        else:
            attempt.breaker.succeeded(attempt.topic)
        if status != 429:
            self._backoff.answered(attempt.origin, attempt.topic)

    def back_off(self, response: aiohttp.ClientResponse, topic: Topic) -> None:
        """Record a host's 429."""
        wait = read_retry_after(response.headers)
        self._backoff.refused(response.url.origin(), topic, wait)

    def _refuse_resting(self, attempt: HostAttempt) -> None:
        origin, topic, breaker = attempt.origin, attempt.topic, attempt.breaker
        if not self._is_probed(origin):
            breaker.try_again(topic, self._timer())
        if breaker.refuses(topic):
            raise UpstreamDown(
                f"upstream {origin.host} does not answer at present; it will be tried again",
                retry_after=breaker.retry_after,
            )
        rest = self._backoff.rest(origin, topic)
        if rest is not None:
            raise TooManyRequests(f"the rate limit of {origin.host} is exceeded", retry_after=rest)

    def _failed(self, attempt: HostAttempt, *, opened: bool) -> None:
        origin = attempt.origin
        if opened and self._is_probed(origin) and origin not in self._probes:
            _log.warning("%s does not answer: probing it until it does", origin)
            probing = self._until_it_answers(origin, attempt.breaker)
            # Of no request: without a request's id.
            task = self._probes[origin] = asyncio.create_task(probing, context=Context())
            task.add_done_callback(lambda _: self._probes.pop(origin))

    def _is_probed(self, origin: URL) -> bool:
        """Whether a host is probed without a client's request: upstream's and its token server.

        An upstream may redirect to any number of other hosts, which never agreed to be probed: each
        is tried by the next request that leads there.
        """
        return origin in (self._own, self.token_server)

    async def _until_it_answers(self, origin: URL, breaker: CircuitBreaker) -> None:
        """Probe a host until it answers, or answers a trial request of a client.

        Many hosts have nothing at `/v2/`: a content network, or a gateway that knows other paths.
        """
        while breaker.open:
            await asyncio.sleep(breaker.pause())
            if not self._is_probed(origin) or self._breakers.get(origin) is not breaker:
                return  # another token server is in use now
            match await self._probe(origin / "v2/"):
                case True:
                    breaker.recovered()
                case False:
                    breaker.let_through()
        _log.warning("%s answers again", origin)
