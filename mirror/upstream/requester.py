"""Requests to one upstream: login, retries, and the meaning of each response."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import (
    AbstractAsyncContextManager,
    nullcontext,
)
from dataclasses import dataclass, field
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
from mirror.upstream.auth.login import Grant, Login
from mirror.upstream.auth.origin import Origin
from mirror.upstream.auth.tokens import Tokens
from mirror.upstream.errors import deadline
from mirror.upstream.leases import Leases
from mirror.upstream.shortcuts import Shortcuts
from mirror.upstream.telemetry import (
    PACE,
    Kind,
    Observer,
    PullLimit,
    UpstreamResponse,
    names_limit,
    read_limit,
    read_retry_after,
)
from mirror.upstream.transport import Size, Timeouts, Transport

HEAD_SHARE = 1 / 3  # of the time for a response: after a HEAD that hangs, a GET is still in time
_ATTEMPTS = 3
_GRANTED_FOR = 600.0  # seconds after a success in which a denial is retried
_GRANTED_KEPT = 4096  # repositories


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """A request to a registry, without its login.

    `observe` is told of each response: the request is sent again with a login, or as a retry.
    """

    method: str
    kind: Kind
    repository: str
    url: URL
    headers: dict[str, str] = field(default_factory=dict)
    size: Size = "small"
    observe: Observer | None = None
    most: float = math.inf  # seconds to wait for the response, if less than usual

    @property
    def ranged(self) -> bool:
        """Whether this is a range request."""
        return hdrs.RANGE in self.headers

    @property
    def plain(self) -> bool:
        """Whether this is a whole GET for content, as a client without a mirror sends it."""
        return self.kind in ("manifest", "blob") and self.method == "GET" and not self.ranged

    @property
    def topic(self) -> str:
        """The kind of question for failure counts; ranges count apart from whole bodies."""
        return f"part of a {self.kind}" if self.ranged else self.kind


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
        self._login = Login(origin.name, origin.url, origin.account, origin.ways, tokens)
        self._on_answer = on_answer
        self._on_access = on_access
        self._granted: TTLCache[str, bool] = TTLCache(_GRANTED_KEPT, _GRANTED_FOR)
        self.received = 0  # bytes of bodies

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.origin.name} at {self.origin.url}>"

    async def close(self) -> None:
        """Stop reading credentials."""
        await self.origin.account.close()

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

    def url(self, repository: str, *rest: str) -> URL:
        """Join validated path parts; a colon needs no encoding in a path (RFC 3986, 3.3)."""
        base = str(self.origin.url).rstrip("/")
        path = "/".join((self.origin.named(repository), *rest))
        return URL(f"{base}/v2/{path}", encoded=True)

    async def ask(self, question: UpstreamRequest) -> aiohttp.ClientResponse:
        """Send a request; retried after a refused connection or a 5xx, but not after a timeout.

        A denial of a repository that was granted lately is retried, too: registries deny by mistake
        during incidents. A repeated denial is believed until the next success.
        """
        persistence = AsyncRetrying(
            retry=retry_if_exception(partial(self._worth_asking_again, question)),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_exponential_jitter(multiplier=0.2, max=2, jitter=0.2),
            reraise=True,
        )
        # Waiting for a connection is not upstream's fault: the deadline begins after it.
        most = min(self.transport.timeouts.answer_timeout, question.most)
        with self.transport.leases.held():
            async with self._turn(question), deadline(most, question.url):
                try:
                    return await persistence(self._ask_once, question)
                except Denied:
                    self._granted.pop(question.repository, None)
                    raise

    def _worth_asking_again(self, question: UpstreamRequest, error: BaseException) -> bool:
        """Whether a retry may succeed; a refused shortcut is not retried."""
        if isinstance(error, ContentRefused):
            return question.plain
        if isinstance(error, Denied) and question.plain:
            return question.repository in self._granted
        return isinstance(error, UpstreamUnavailable) and not isinstance(error, UpstreamDown)

    def _turn(self, question: UpstreamRequest) -> AbstractAsyncContextManager[None]:
        """Wait for a connection; a large request already holds one for its whole body."""
        return self.transport.turns.taken() if question.size == "small" else nullcontext()

    async def _ask_once(self, question: UpstreamRequest) -> aiohttp.ClientResponse:
        try:
            response = await self._ask_with_login(question)
        except Denied:  # by the token server
            self._tell_access(question, None, 403)
            raise
        try:
            self._weigh(question, response)
        except UpstreamFailure:
            response.release()
            raise
        return response

    def _weigh(self, question: UpstreamRequest, response: aiohttp.ClientResponse) -> None:
        """Raise UpstreamFailure for a response that is no answer; report granted or denied access.

        If the target of a redirect refuses, that concerns one URL, perhaps its signature: the
        registry itself granted access.
        """
        elsewhere = _is_elsewhere(question, response)
        status = 200 if elsewhere else response.status
        self._tell_access(question, response, status)
        if status in (401, 403) and question.plain:
            raise Denied(responses.DENIED)
        if pages.has_no_api(question.kind, response):
            return  # a valid answer from any host
        if response.status == 429:
            self._refuse_rate(question, response)
        responses.refuse_faults(response, self.origin.name)
        content = question.kind in ("manifest", "blob")
        if elsewhere and content and 400 <= response.status < 500 and response.status != 416:
            host, status = response.url.host, response.status
            raise ContentRefused(f"{host}, to which {self.origin.name} redirects, answers {status}")

    def _refuse_rate(self, question: UpstreamRequest, response: aiohttp.ClientResponse) -> None:
        """Raise the meaning of a 429, and start a backoff for the question."""
        wait = read_retry_after(response.headers)
        if self._is_spent(question, response):
            raise PullLimitSpent(f"{self.origin.name}'s pull limit is spent", retry_after=wait)
        self.transport.back_off(response, question.topic, question.url)
        host = response.url.host
        wait = max(1, PACE if wait is None else wait)
        raise TooManyRequests(f"the rate limit of {host} is exceeded", retry_after=wait)

    def _is_spent(self, question: UpstreamRequest, response: aiohttp.ClientResponse) -> bool:
        """Whether a 429 means that no pull is left, rather than too many requests.

        Only a registry that counts pulls means that, and only for manifests.
        """
        counts = self._limit(question, response) is not None or self.origin.counts_pulls
        own = question.kind == "manifest" and not _is_elsewhere(question, response)
        return counts and own and responses.says_spent(response)

    def _limit(
        self, question: UpstreamRequest, response: aiohttp.ClientResponse | None
    ) -> PullLimit | None:
        if response is None or _is_elsewhere(question, response):
            return None
        return read_limit(response.headers, windowless=self.origin.counts_pulls)

    def _names_limit(self, response: aiohttp.ClientResponse | None) -> bool:
        """Whether a registry that counts pulls reports a limit, valid or not."""
        return response is not None and self.origin.counts_pulls and names_limit(response.headers)

    def _tell_access(
        self, question: UpstreamRequest, response: aiohttp.ClientResponse | None, status: int
    ) -> None:
        """Report granted or denied access to a repository.

        Success with an account says nothing about public access. Success without one makes a denied
        repository public again, so it must be real content: not a web page, nor a redirect to a
        login.
        """
        if question.kind not in ("manifest", "blob"):
            return
        if 200 <= status < 300:
            self._granted[question.repository] = True
            if self.origin.logs_in or (response and _is_content(question, response)):
                self._on_access(question.repository, True)
        elif status in (401, 403) and question.plain:
            self._on_access(question.repository, False)

    async def _ask_with_login(self, question: UpstreamRequest) -> aiohttp.ClientResponse:
        repository = self.origin.named(question.repository)
        return await LoginAttempt(self._login, repository, partial(self._send, question)).run()

    async def _send(self, question: UpstreamRequest, grant: Grant) -> aiohttp.ClientResponse:
        headers = question.headers
        if grant.header:
            headers = {**headers, hdrs.AUTHORIZATION: grant.header}
        tell = partial(self._tell, question)
        return await self.transport.ask(
            question.method, question.url, headers, tell, question.size, kind=question.topic
        )

    def _tell(
        self, question: UpstreamRequest, response: aiohttp.ClientResponse | None, seconds: float
    ) -> None:
        limit = self._limit(question, response)
        answer = UpstreamResponse(
            upstream=self.origin.name,
            account=self.origin.whose,
            kind=question.kind,
            method=question.method,
            status=None if response is None else response.status,
            seconds=seconds,
            repository=question.repository,
            asked=question.url.name,
            limit=limit,
            spent=response is not None and self._is_spent(question, response),
            retry_after=None if response is None else read_retry_after(response.headers),
            garbled=limit is None and self._names_limit(response),
        )
        if question.observe is not None:
            question.observe(answer)
        self._on_answer(answer)


def _is_content(question: UpstreamRequest, response: aiohttp.ClientResponse) -> bool:
    given = 200 <= response.status < 300
    return given and responses.is_content(response, question.kind, question.url.name)


def _is_elsewhere(question: UpstreamRequest, response: aiohttp.ClientResponse) -> bool:
    """Whether the response comes from another host, to which the registry redirected."""
    return response.url.origin() != question.url.origin()
