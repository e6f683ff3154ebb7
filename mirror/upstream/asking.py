"""Asking one upstream: logged in, asked again where that helps, and the answer weighed."""

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
from mirror.upstream.answers import (
    PACE,
    Answer,
    Ask,
    Kind,
    PullLimit,
    names_limit,
    read_limit,
    read_retry_after,
)
from mirror.upstream.auth.login import Grant, Login
from mirror.upstream.auth.origin import Origin
from mirror.upstream.auth.tokens import Tokens
from mirror.upstream.auth.visit import Visit
from mirror.upstream.faults import deadline
from mirror.upstream.leases import Leases
from mirror.upstream.shortcuts import Shortcuts
from mirror.upstream.wire import Patience, Size, Wire

HEAD_SHARE = 1 / 3  # of the time for an answer: one that hangs leaves a client patient for a GET
_ATTEMPTS = 3
_GRANTED_FOR = 600.0  # seconds in which a denial contradicts what the registry gave
_GRANTED_KEPT = 4096  # repositories


@dataclass(frozen=True, slots=True)
class Question:
    """A request to a registry, without its login. `ask` says for whom a manifest is pulled."""

    method: str
    kind: Kind
    repository: str
    url: URL
    headers: dict[str, str] = field(default_factory=dict)
    size: Size = "small"
    ask: Ask | None = None
    most: float = math.inf  # seconds to wait for the answer, where that is less than usual

    @property
    def ranged(self) -> bool:
        """Whether a part is asked for."""
        return hdrs.RANGE in self.headers

    @property
    def plain(self) -> bool:
        """Whether content is asked for as a client without a mirror does: whole, by GET."""
        return self.kind in ("manifest", "blob") and self.method == "GET" and not self.ranged

    @property
    def topic(self) -> str:
        """What kind of question a host's failures are counted for: a refused part is no whole."""
        return f"part of a {self.kind}" if self.ranged else self.kind


class Asking:
    """Asks one upstream any question. Every answer, and every lack of one, is told to `on_answer`.

    `on_access` is told, by repository, that the registry itself gives something of it or denies
    it. A yes counts however it was asked for; a denial only of a plain GET: a HEAD or a range may
    be refused for what it is.
    """

    def __init__(
        self,
        origin: Origin,
        wire: Wire,
        tokens: Tokens,
        on_answer: Callable[[Answer], None],
        on_access: Callable[[str, bool], None] = lambda _repository, _granted: None,
    ) -> None:
        self.origin = origin
        self.shortcuts = Shortcuts()
        self.wire = wire
        self._login = Login(origin.name, origin.url, origin.account, origin.ways, tokens)
        self._on_answer = on_answer
        self._on_access = on_access
        self._granted: TTLCache[str, bool] = TTLCache(_GRANTED_KEPT, _GRANTED_FOR)
        self.received = 0  # bytes of bodies

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.origin.name} at {self.origin.url}>"

    async def close(self) -> None:
        """Stop what is being read of its account."""
        await self.origin.account.close()

    @property
    def patience(self) -> Patience:
        """How long it may take."""
        return self.wire.patience

    @property
    def leases(self) -> Leases:
        """What goes on with it."""
        return self.wire.leases

    @property
    def down(self) -> bool:
        """Whether it failed so often of late that it is not asked, but probed."""
        return self.wire.down(self.origin.url)

    def count(self, received: int) -> None:
        """Count bytes of bodies."""
        self.received += received

    def url(self, repository: str, *rest: str) -> URL:
        """Join validated parts; a colon needs no encoding in a path (RFC 3986, 3.3)."""
        base = str(self.origin.url).rstrip("/")
        path = "/".join((self.origin.named(repository), *rest))
        return URL(f"{base}/v2/{path}", encoded=True)

    async def ask(self, question: Question) -> aiohttp.ClientResponse:
        """Ask, again where that helps: after a refused connection or a 5xx, not after silence.

        So is a denial of a repository that was granted of late: registries deny by mistake in
        their incidents. One that lasts is believed until the next grant.
        """
        persistence = AsyncRetrying(
            retry=retry_if_exception(partial(self._worth_asking_again, question)),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_exponential_jitter(multiplier=0.2, max=2, jitter=0.2),
            reraise=True,
        )
        # Whoever waits for a connection is not kept waiting by upstream: no deadline yet.
        patience = min(self.wire.patience.answer, question.most)
        with self.wire.leases.held():
            async with self._turn(question), deadline(patience, question.url):
                try:
                    return await persistence(self._ask_once, question)
                except Denied:
                    self._granted.pop(question.repository, None)
                    raise

    def _worth_asking_again(self, question: Question, error: BaseException) -> bool:
        """Whether the same may be answered a moment later; a shortcut's refusal is left at that."""
        if isinstance(error, ContentRefused):
            return question.plain
        if isinstance(error, Denied) and question.plain:
            return question.repository in self._granted
        return isinstance(error, UpstreamUnavailable) and not isinstance(error, UpstreamDown)

    def _turn(self, question: Question) -> AbstractAsyncContextManager[None]:
        """Wait for a connection; a large question has waited for as long as its body lasts."""
        return self.wire.turns.taken() if question.size == "small" else nullcontext()

    async def _ask_once(self, question: Question) -> aiohttp.ClientResponse:
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

    def _weigh(self, question: Question, response: aiohttp.ClientResponse) -> None:
        """Raise UpstreamFailure where no answer came; tell what the registry itself decided.

        What the target of a redirect refuses is one URL, be it for its signature: the registry
        gave it.
        """
        elsewhere = _is_elsewhere(question, response)
        status = 200 if elsewhere else response.status
        self._tell_access(question, response, status)
        if status in (401, 403) and question.plain:
            raise Denied(responses.DENIED)
        if pages.has_no_api(question.kind, response):
            return  # an answer, whoever gives it
        if response.status == 429:
            self._refuse_rate(question, response)
        responses.refuse_faults(response, self.origin.name)
        content = question.kind in ("manifest", "blob")
        if elsewhere and content and 400 <= response.status < 500 and response.status != 416:
            host, status = response.url.host, response.status
            raise ContentRefused(f"{host}, where {self.origin.name} redirects to, answers {status}")

    def _refuse_rate(self, question: Question, response: aiohttp.ClientResponse) -> None:
        """Raise what a 429 means; what it was said about is left alone for a while."""
        wait = read_retry_after(response.headers)
        if self._is_spent(question, response):
            raise PullLimitSpent(f"{self.origin.name}'s pull limit is spent", retry_after=wait)
        self.wire.back_off(response, question.topic, question.url)
        host = response.url.host
        wait = max(1, PACE if wait is None else wait)
        raise TooManyRequests(f"upstream {host} is asked too often", retry_after=wait)

    def _is_spent(self, question: Question, response: aiohttp.ClientResponse) -> bool:
        """Whether a 429 says that no pull is left, rather than that requests come too fast.

        Only a registry that counts pulls says so, and of manifests.
        """
        counts = self._limit(question, response) is not None or self.origin.counts_pulls
        own = question.kind == "manifest" and not _is_elsewhere(question, response)
        return counts and own and responses.says_spent(response)

    def _limit(
        self, question: Question, response: aiohttp.ClientResponse | None
    ) -> PullLimit | None:
        if response is None or _is_elsewhere(question, response):
            return None
        return read_limit(response.headers, windowless=self.origin.counts_pulls)

    def _names_limit(self, response: aiohttp.ClientResponse | None) -> bool:
        """Whether a registry that counts pulls names a limit, be it one that can be read or not."""
        return response is not None and self.origin.counts_pulls and names_limit(response.headers)

    def _tell_access(
        self, question: Question, response: aiohttp.ClientResponse | None, status: int
    ) -> None:
        """Tell what this says of who may read.

        Whatever an account is given may be private. Without one a yes makes what was denied open
        to everybody: a page in place of content is none, nor is a redirect to a login.
        """
        if question.kind not in ("manifest", "blob"):
            return
        if 200 <= status < 300:
            self._granted[question.repository] = True
            if self.origin.logs_in or (response and _is_content(question, response)):
                self._on_access(question.repository, True)
        elif status in (401, 403) and question.plain:
            self._on_access(question.repository, False)

    async def _ask_with_login(self, question: Question) -> aiohttp.ClientResponse:
        repository = self.origin.named(question.repository)
        return await Visit(self._login, repository, partial(self._send, question)).run()

    async def _send(self, question: Question, grant: Grant) -> aiohttp.ClientResponse:
        headers = question.headers
        if grant.header:
            headers = {**headers, hdrs.AUTHORIZATION: grant.header}
        tell = partial(self._tell, question)
        return await self.wire.ask(
            question.method, question.url, headers, tell, question.size, kind=question.topic
        )

    def _tell(
        self, question: Question, response: aiohttp.ClientResponse | None, seconds: float
    ) -> None:
        limit = self._limit(question, response)
        answer = Answer(
            upstream=self.origin.name,
            account=self.origin.whose,
            kind=question.kind,
            method=question.method,
            status=None if response is None else response.status,
            seconds=seconds,
            repository=question.repository,
            asked=question.url.name,
            ask=question.ask,
            limit=limit,
            spent=response is not None and self._is_spent(question, response),
            retry_after=None if response is None else read_retry_after(response.headers),
            garbled=limit is None and self._names_limit(response),
        )
        self._on_answer(answer)


def _is_content(question: Question, response: aiohttp.ClientResponse) -> bool:
    given = 200 <= response.status < 300
    return given and responses.is_content(response, question.kind, question.url.name)


def _is_elsewhere(question: Question, response: aiohttp.ClientResponse) -> bool:
    """Whether another host answered, to which the registry redirects."""
    return response.url.origin() != question.url.origin()
