"""The requester of one upstream: login, retries, and the meaning of each response."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import (
    AbstractAsyncContextManager,
    nullcontext,
)
from functools import partial

import aiohttp
from aiohttp import hdrs
from cachetools import TTLCache
from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential_jitter,
)
from yarl import URL

from mirror.oci.errors import (
    ContentRefused,
    Denied,
    PullLimitSpent,
    TooManyRequests,
    UpstreamDown,
    UpstreamFailure,
    UpstreamUnavailable,
)
from mirror.upstream import pages, responses
from mirror.upstream.auth.attempt import LoginAttempt
from mirror.upstream.auth.login import Authorization, Login
from mirror.upstream.auth.origin import Origin
from mirror.upstream.auth.tokens import Tokens
from mirror.upstream.errors import deadline
from mirror.upstream.leases import Leases
from mirror.upstream.shortcuts import Shortcuts
from mirror.upstream.telemetry import (
    PACE,
    Observer,
    PullLimit,
    UpstreamResponse,
    names_limit,
    read_limit,
    read_retry_after,
)
from mirror.upstream.transport import Timeouts, Transport
from mirror.upstream.upstream_request import UpstreamRequest

_ATTEMPTS = 3
_GRANTED_FOR = 600.0  # seconds after a success in which a denial is retried
_GRANTED_KEPT = 4096  # repositories


class Requester:
    """Sends requests to one upstream. `on_answer` gets a record of each, answered or not.

    The record is of the wire only. The reason of a request, such as the client of a pull, is known
    to the request's own observer.
    `on_access` is called with a repository when the registry itself grants or denies access to it.
    Any success counts as granted. Only a plain GET counts as denied: a HEAD or a range may be
    refused for its own sake.
    """

    def __init__(
        self,
        origin: Origin,
        transport: Transport,
        tokens: Tokens,
        on_answer: Observer,
        on_access: Callable[[str, bool], None] = lambda _repository, _granted: None,
    ) -> None:
        self.origin = origin
        self.shortcuts = Shortcuts()
        self.transport = transport
        self._login = Login(
            origin.name, origin.url, origin.credential_manager, origin.login_policy, tokens
        )
        self._on_answer = on_answer
        self._on_access = on_access
        self._granted: TTLCache[str, bool] = TTLCache(_GRANTED_KEPT, _GRANTED_FOR)
        self.received = 0  # bytes of bodies

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.origin.name} at {self.origin.url}>"

    async def close(self) -> None:
        """Stop reading credentials."""
        await self.origin.credential_manager.close()

    @property
    def timeouts(self) -> Timeouts:
        """The time limits."""
        return self.transport.timeouts

    @property
    def leases(self) -> Leases:
        """The activity in progress with upstream."""
        return self.transport.leases

    @property
    def down(self) -> bool:
        """Whether the circuit breaker is open: upstream is probed instead of asked."""
        return self.transport.down(self.origin.url)

    def count(self, received: int) -> None:
        """Count received bytes of bodies."""
        self.received += received

    def url(self, name: str, *rest: str) -> URL:
        """Join validated path parts; a colon needs no encoding in a path (RFC 3986, 3.3)."""
        base = str(self.origin.url).rstrip("/")
        path = "/".join((self.origin.named(name), *rest))
        return URL(f"{base}/v2/{path}", encoded=True)

    async def ask(self, request: UpstreamRequest) -> aiohttp.ClientResponse:
        """Send a request; retried after a refused connection or a 5xx, but not after a timeout.

        A denial of a repository that was granted lately is retried, too: registries deny by mistake
        during incidents. A repeated denial is believed until the next success.
        """
        persistence = AsyncRetrying(
            retry=retry_if_exception(partial(self._worth_asking_again, request)),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_exponential_jitter(multiplier=0.2, max=2, jitter=0.2),
            reraise=True,
        )
        # Waiting for a connection is not upstream's fault: the deadline begins after it.
        most = min(self.transport.timeouts.answer_timeout, request.most)
        with self.transport.leases.held():
            async with self._turn(request), deadline(most, request.url):
                try:
                    return await persistence(self._ask_once, request)
                except Denied:
                    self._granted.pop(request.repository, None)
                    raise

    def _worth_asking_again(self, request: UpstreamRequest, error: BaseException) -> bool:
        """Whether a retry may succeed; a refused shortcut is not retried."""
        if isinstance(error, ContentRefused):
            return request.plain
        if isinstance(error, Denied) and request.plain:
            return request.repository in self._granted
        return isinstance(error, UpstreamUnavailable) and not isinstance(error, UpstreamDown)

    def _turn(self, request: UpstreamRequest) -> AbstractAsyncContextManager[None]:
        """Wait for a connection; a large request already holds one for its whole body."""
        return self.transport.connection_queue.taken() if request.size == "small" else nullcontext()

    async def _ask_once(self, request: UpstreamRequest) -> aiohttp.ClientResponse:
        try:
            response = await self._ask_with_login(request)
        except Denied:  # by the token server
            self._tell_access(request, None, 403)
            raise
        try:
            self._weigh(request, response)
        except UpstreamFailure:
            response.release()
            raise
        return response

    def _weigh(self, request: UpstreamRequest, response: aiohttp.ClientResponse) -> None:
        """Raise UpstreamFailure for a response that is no answer; report granted or denied access.

        If the target of a redirect refuses, that concerns one URL, perhaps its signature: the
        registry itself granted access.
        """
        elsewhere = request.is_elsewhere(response)
        status = 200 if elsewhere else response.status
        self._tell_access(request, response, status)
        if status in (401, 403) and request.plain:
            raise Denied(responses.DENIED)
        if pages.has_no_api(request.kind, response):
            return  # a valid answer from any host
        if response.status == 429:
            self._refuse_rate(request, response)
        responses.refuse_faults(response, self.origin.name)
        content = request.kind in ("manifest", "blob")
        if elsewhere and content and 400 <= response.status < 500 and response.status != 416:
            host, status = response.url.host, response.status
            raise ContentRefused(f"{host}, to which {self.origin.name} redirects, answers {status}")

    def _refuse_rate(self, request: UpstreamRequest, response: aiohttp.ClientResponse) -> None:
        """Raise the meaning of a 429, and start a backoff for the request."""
        wait = read_retry_after(response.headers)
        if self._is_spent(request, response):
            raise PullLimitSpent(f"{self.origin.name}'s pull limit is spent", retry_after=wait)
        self.transport.back_off(response, request.topic, request.url)
        host = response.url.host
        wait = max(1, PACE if wait is None else wait)
        raise TooManyRequests(f"the rate limit of {host} is exceeded", retry_after=wait)

    def _is_spent(self, request: UpstreamRequest, response: aiohttp.ClientResponse) -> bool:
        """Whether a 429 means that no pull is left, rather than too many requests.

        Only a registry that counts pulls means that, and only for manifests.
        """
        counts = self._limit(request, response) is not None or self.origin.counts_pulls
        own = request.kind == "manifest" and not request.is_elsewhere(response)
        return counts and own and responses.says_spent(response)

    def _limit(
        self, request: UpstreamRequest, response: aiohttp.ClientResponse | None
    ) -> PullLimit | None:
        if response is None or request.is_elsewhere(response):
            return None
        return read_limit(response.headers, windowless=self.origin.counts_pulls)

    def _names_limit(self, response: aiohttp.ClientResponse | None) -> bool:
        """Whether a registry that counts pulls reports a limit, valid or not."""
        return response is not None and self.origin.counts_pulls and names_limit(response.headers)

    def _tell_access(
        self, request: UpstreamRequest, response: aiohttp.ClientResponse | None, status: int
    ) -> None:
        """Report granted or denied access to a repository.

        Success with an account says nothing about public access. Success without one makes a denied
        repository public again, so it must be real content: not a web page, nor a redirect to a
        login.
        """
        if request.kind not in ("manifest", "blob"):
            return
        if 200 <= status < 300:
            self._granted[request.repository] = True
            if self.origin.logs_in or (response and request.is_content(response)):
                self._on_access(request.repository, True)
        elif status in (401, 403) and request.plain:
            self._on_access(request.repository, False)

    async def _ask_with_login(self, request: UpstreamRequest) -> aiohttp.ClientResponse:
        name = self.origin.named(request.repository)
        return await LoginAttempt(self._login, name, partial(self._send, request)).run()

    async def _send(
        self, request: UpstreamRequest, authorization: Authorization
    ) -> aiohttp.ClientResponse:
        headers = request.headers
        if authorization.header:
            headers = {**headers, hdrs.AUTHORIZATION: authorization.header}
        tell = partial(self._tell, request)
        return await self.transport.ask(
            request.method, request.url, headers, tell, request.size, kind=request.topic
        )

    def _tell(
        self, request: UpstreamRequest, response: aiohttp.ClientResponse | None, seconds: float
    ) -> None:
        limit = self._limit(request, response)
        answer = UpstreamResponse(
            upstream=self.origin.name,
            account=self.origin.account_name,
            kind=request.kind,
            method=request.method,
            status=None if response is None else response.status,
            seconds=seconds,
            repository=request.repository,
            asked=request.url.name,
            limit=limit,
            spent=response is not None and self._is_spent(request, response),
            retry_after=None if response is None else read_retry_after(response.headers),
            garbled=limit is None and self._names_limit(response),
        )
        if request.observe is not None:
            request.observe(answer)
        self._on_answer(answer)
