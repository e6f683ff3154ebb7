"""One upstream registry: what can be asked of it, and how its answers are read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import (
    AbstractAsyncContextManager,
    ExitStack,
    asynccontextmanager,
    closing,
    nullcontext,
)
from dataclasses import dataclass, field
from functools import partial

import aiohttp
from aiohttp import hdrs
from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential_jitter,
)
from yarl import URL

from mirror.oci import documents, manifest, media
from mirror.oci.digest import Digest
from mirror.oci.errors import (
    BlobUnknown,
    ContentRefused,
    Denied,
    ManifestUnfit,
    ManifestUnknown,
    PullLimitSpent,
    TooManyRequests,
    UpstreamDown,
    UpstreamFailure,
    UpstreamMisbehaved,
    UpstreamUnavailable,
)
from mirror.oci.manifest import Descriptor, Manifest
from mirror.oci.names import Reference
from mirror.oci.paging import Paging
from mirror.oci.ranges import Span
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
from mirror.upstream.faults import deadline, read_capped
from mirror.upstream.pages import Page, PageBody
from mirror.upstream.responses import BlobBody
from mirror.upstream.shortcuts import Shortcuts
from mirror.upstream.wire import Patience, Size, Wire

_MAX_PAGE = manifest.MAX_SIZE  # bytes of one page of tags or referrers
_ATTEMPTS = 3
_FIRST = Paging()


@dataclass(frozen=True, slots=True)
class _Question:
    method: str
    kind: Kind
    repository: str
    url: URL
    headers: dict[str, str] = field(default_factory=dict)
    size: Size = "small"
    ask: Ask | None = None

    @property
    def plain(self) -> bool:
        """Whether content is asked for as a client without a mirror does: whole, by GET."""
        content = self.kind in ("manifest", "blob")
        return content and self.method == "GET" and hdrs.RANGE not in self.headers


class Registry:
    """Asks one upstream. Every answer, and every lack of one, is told to `on_answer`.

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
        self._wire = wire
        self._login = Login(origin.name, origin.url, origin.account, origin.ways, tokens)
        self._on_answer = on_answer
        self._on_access = on_access
        self.received = 0  # bytes of bodies

    def __repr__(self) -> str:
        return f"<Registry {self.origin.name} at {self.origin.url}>"

    async def close(self) -> None:
        """Stop what is being read of its account."""
        await self.origin.account.close()

    @property
    def patience(self) -> Patience:
        """How long it may take."""
        return self._wire.patience

    @property
    def down(self) -> bool:
        """Whether it failed so often of late that it is not asked, but probed."""
        return self._wire.down(self.origin.url)

    async def head_manifest(self, repository: str, reference: Reference) -> Descriptor | None:
        """Ask for a manifest's descriptor, which no registry counts; None if it does not say.

        Raises ManifestUnknown, Denied, or UpstreamFailure.
        """
        url = self._url(repository, "manifests", reference)
        question = _Question("HEAD", "manifest", repository, url, _accept())
        async with await self._ask(question) as response:
            if response.status == 405:
                return None
            missing = ManifestUnknown(f"upstream has no {repository}:{reference}")
            responses.check(response, missing)
            return responses.descriptor(response)

    async def get_manifest(self, repository: str, reference: Reference, ask: Ask) -> Manifest:
        """Fetch and prove a manifest: on Docker Hub, this is a pull.

        Raises ManifestUnknown, Denied, or UpstreamFailure.
        """
        url = self._url(repository, "manifests", reference)
        question = _Question("GET", "manifest", repository, url, _accept(), ask=ask)
        async with await self._ask(question) as response:
            responses.check(response, ManifestUnknown(f"upstream has no {repository}:{reference}"))
            async with deadline(self._wire.patience.silence, url):
                body = await read_capped(response, manifest.MAX_SIZE, "manifest", ManifestUnfit)
            self._count(len(body))
            promised = responses.digest(response)
            media_type = media.bare(response.headers.get(hdrs.CONTENT_TYPE, ""))
        named = reference if isinstance(reference, Digest) else promised
        return await documents.aside(_proven, body, named, media_type)

    async def head_blob(self, repository: str, digest: Digest) -> int:
        """Ask whether a repository has a blob, and its size in bytes.

        Raises BlobUnknown, Denied, or UpstreamFailure.
        """
        url = self._url(repository, "blobs", digest)
        async with await self._ask(_Question("HEAD", "blob", repository, url)) as response:
            responses.check(response, BlobUnknown(f"upstream has no {digest} in {repository}"))
            if response.content_length is None:
                raise UpstreamMisbehaved("upstream does not say how long the blob is")
            return response.content_length

    @asynccontextmanager
    async def open_blob(
        self, repository: str, digest: Digest, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[BlobBody]:
        """Open a blob's bytes from `start` up to, not including, `stop`.

        An upstream that ignores ranges sends the whole: look at the body's `start`.
        Raises BlobUnknown, Denied, or UpstreamFailure.
        """
        headers: dict[str, str] = {}
        if stop is not None:
            headers[hdrs.RANGE] = Span(start, stop).header()
        elif start:
            headers[hdrs.RANGE] = f"bytes={start}-"
        url = self._url(repository, "blobs", digest)
        question = _Question("GET", "blob", repository, url, headers, "large")
        async with self._wire.turns["large"], await self._ask(question) as response:
            responses.check(response, BlobUnknown(f"upstream has no {digest} in {repository}"))
            yield responses.blob_body(response, start, self._count, self._wire.link.pace)

    async def open_page(
        self, kind: Kind, repository: str, path: str, paging: Paging, size: Size = "small"
    ) -> PageBody:
        """Open a page of tags or referrers, to be closed: `path` is what follows the repository's.

        Raises ManifestUnknown, Denied, or UpstreamFailure.
        """
        query = paging.query()
        url = URL(f"{self._url(repository, path)}{'?' if query else ''}{query}", encoded=True)
        question = _Question("GET", kind, repository, url, pages.accept(kind), size)
        with ExitStack() as held:
            if size == "large":
                await self._wire.turns["large"].acquire()
                held.callback(self._wire.turns["large"].release)
            response = await self._ask(question)
            held.callback(response.close)
            pages.check(response, kind, ManifestUnknown(f"upstream has no {kind} of {repository}"))
            return PageBody(response, self._count, held.pop_all())

    async def get_page(
        self, kind: Kind, repository: str, path: str, paging: Paging = _FIRST
    ) -> Page:
        """Fetch a whole page, of 4 MiB at most; raises as `open_page` does."""
        with closing(await self.open_page(kind, repository, path, paging)) as page:
            async with deadline(self._wire.patience.silence, self.origin.url):
                return await page.whole(_MAX_PAGE)

    async def readable(self, repository: str) -> bool:
        """Ask, by its list of tags, which nobody counts, whether a repository may be read.

        One that is hidden is not told from one that does not exist, and what is no list from
        either: an error may come under a 200, too. Raises UpstreamFailure.
        """
        try:
            page = await self.get_page("tags", repository, "tags/list", Paging(1))
            document = await documents.aside(documents.read, page.body)
            return isinstance(document.get("tags"), list)
        except (Denied, ManifestUnknown, ValueError):
            return False

    def _count(self, received: int) -> None:
        self.received += received

    def _url(self, repository: str, *rest: str) -> URL:
        """Join validated parts; a colon needs no encoding in a path (RFC 3986, 3.3)."""
        base = str(self.origin.url).rstrip("/")
        path = "/".join((self.origin.named(repository), *rest))
        return URL(f"{base}/v2/{path}", encoded=True)

    async def _ask(self, question: _Question) -> aiohttp.ClientResponse:
        """Ask, again where that helps: after a refused connection or a 5xx, not after silence."""
        persistence = AsyncRetrying(
            retry=retry_if_exception(partial(_worth_asking_again, question)),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_exponential_jitter(multiplier=0.2, max=2, jitter=0.2),
            reraise=True,
        )
        # Whoever waits for a connection is not kept waiting by upstream: no deadline yet.
        async with self._turn(question), deadline(self._wire.patience.answer, question.url):
            return await persistence(self._ask_once, question)

    def _turn(self, question: _Question) -> AbstractAsyncContextManager[None]:
        """Wait for a connection; a large question has waited for as long as its body lasts."""
        return self._wire.turns["small"] if question.size == "small" else nullcontext()

    async def _ask_once(self, question: _Question) -> aiohttp.ClientResponse:
        try:
            response = await self._ask_with_login(question)
        except Denied:  # by the token server
            self._tell_access(question, 403)
            raise
        try:
            self._weigh(question, response)
        except UpstreamFailure:
            response.release()
            raise
        return response

    def _weigh(self, question: _Question, response: aiohttp.ClientResponse) -> None:
        """Raise UpstreamFailure where no answer came; tell what the registry itself decided.

        What the target of a redirect refuses is one URL, be it for its signature: the registry
        gave it.
        """
        elsewhere = _is_elsewhere(question, response)
        self._tell_access(question, 200 if elsewhere else response.status)
        if pages.has_no_api(question.kind, response):
            return  # an answer, whoever gives it
        if response.status == 429:
            self._refuse_rate(question, response)
        responses.refuse_faults(response, self.origin.name)
        if elsewhere and 400 <= response.status < 500 and response.status != 416:
            host, status = response.url.host, response.status
            raise ContentRefused(f"{host}, where {self.origin.name} redirects to, answers {status}")

    def _refuse_rate(self, question: _Question, response: aiohttp.ClientResponse) -> None:
        """Raise what a 429 means; what it was said about is left alone for a while."""
        wait = read_retry_after(response.headers)
        if self._is_spent(question, response):
            raise PullLimitSpent(f"{self.origin.name}'s pull limit is spent", retry_after=wait)
        self._wire.back_off(response, question.kind, question.url)
        host = response.url.host
        wait = max(1, PACE if wait is None else wait)
        raise TooManyRequests(f"upstream {host} is asked too often", retry_after=wait)

    def _is_spent(self, question: _Question, response: aiohttp.ClientResponse) -> bool:
        """Whether a 429 says that no pull is left, rather than that requests come too fast.

        Only a registry that counts pulls says so, and of manifests.
        """
        counts = self._limit(question, response) is not None or self.origin.counts_pulls
        own = question.kind == "manifest" and not _is_elsewhere(question, response)
        return counts and own and responses.says_spent(response)

    def _limit(
        self, question: _Question, response: aiohttp.ClientResponse | None
    ) -> PullLimit | None:
        if response is None or _is_elsewhere(question, response):
            return None
        return read_limit(response.headers, windowless=self.origin.counts_pulls)

    def _names_limit(self, response: aiohttp.ClientResponse | None) -> bool:
        """Whether a registry that counts pulls names a limit, be it one that can be read or not."""
        return response is not None and self.origin.counts_pulls and names_limit(response.headers)

    def _tell_access(self, question: _Question, status: int) -> None:
        if not question.repository:
            return
        if 200 <= status < 300:
            self._on_access(question.repository, True)
        elif status in (401, 403) and question.plain:
            self._on_access(question.repository, False)

    async def _ask_with_login(self, question: _Question) -> aiohttp.ClientResponse:
        repository = self.origin.named(question.repository)
        grant = await self._login.grant(repository)
        response = await self._send(question, grant)
        if response.status == 401:
            challenges = response.headers.getall(hdrs.WWW_AUTHENTICATE, [])
            response.release()
            better = await self._login.retry(grant, challenges, repository)
            if better is not None:
                response = await self._send(question, better)
        return response

    async def _send(self, question: _Question, grant: Grant) -> aiohttp.ClientResponse:
        headers = question.headers
        if grant.header:
            headers = {**headers, hdrs.AUTHORIZATION: grant.header}
        tell = partial(self._tell, question)
        return await self._wire.ask(
            question.method, question.url, headers, tell, question.size, kind=question.kind
        )

    def _tell(
        self, question: _Question, response: aiohttp.ClientResponse | None, seconds: float
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


def _is_elsewhere(question: _Question, response: aiohttp.ClientResponse) -> bool:
    """Whether another host answered, to which the registry redirects."""
    return response.url.origin() != question.url.origin()


def _proven(body: bytes, named: Digest | None, media_type: str) -> Manifest:
    digest = named or Digest.of(body)
    if not digest.proves(body):
        raise UpstreamMisbehaved(f"upstream sent a manifest that is not {digest}")
    return manifest.read(body, digest, media_type)


def _worth_asking_again(question: _Question, error: BaseException) -> bool:
    """Whether the same may be answered a moment later; a shortcut's refusal leaves it at that."""
    if isinstance(error, ContentRefused):
        return question.plain
    return isinstance(error, UpstreamUnavailable) and not isinstance(error, UpstreamDown)


def _accept() -> dict[str, str]:
    return {hdrs.ACCEPT: media.ACCEPT}
