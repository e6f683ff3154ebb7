"""One upstream registry: what can be asked of it, and how its answers are read."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import (
    AbstractAsyncContextManager,
    ExitStack,
    asynccontextmanager,
    closing,
    nullcontext,
    suppress,
)
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import aiohttp
from aiohttp import hdrs
from cachetools import LRUCache
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
    BrokenOff,
    ContentRefused,
    Denied,
    ManifestUnfit,
    ManifestUnknown,
    ManifestWrong,
    PullLimitSpent,
    RangeRefused,
    RegistryError,
    TooManyRequests,
    UpstreamDown,
    UpstreamFailure,
    UpstreamMisbehaved,
    UpstreamUnavailable,
    UpstreamUnreachable,
)
from mirror.oci.manifest import Hint, Manifest
from mirror.oci.names import Reference
from mirror.oci.paging import Paging
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
from mirror.upstream.blob_body import (
    BlobBody,
    Part,
    Wanted,
    hinted_size,
    read_part,
    read_whole,
    told_size,
)
from mirror.upstream.faults import deadline, read_capped
from mirror.upstream.pages import Page, PageBody
from mirror.upstream.shortcuts import Shortcuts
from mirror.upstream.wire import Patience, Size, Wire

_MAX_PAGE = manifest.MAX_SIZE  # bytes of one page of tags or referrers
_ATTEMPTS = 3
_HEAD_SHARE = 1 / 3  # of the time for an answer: one that hangs leaves a client patient for a GET
_UNHEARD = 1024  # manifests
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
        self._unheard: LRUCache[tuple[str, Reference], bool] = LRUCache(_UNHEARD)
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

    async def hint(self, repository: str, reference: Reference, *, insist: bool = False) -> Hint:
        """Ask by HEAD, which no registry counts, what a manifest is. What it says is a hint.

        A refusal is one that tells nothing: the GET decides. With `insist` a HEAD is asked for
        though those of this registry were of no use lately. Raises UpstreamFailure where no answer
        comes: a 5xx, a 429, silence.
        """
        url = self._url(repository, "manifests", reference)
        if not insist and not self.shortcuts.worth(url, "head manifest"):
            return Hint()
        most = self._wire.patience.answer * _HEAD_SHARE
        question = _Question("HEAD", "manifest", repository, url, _accept(), most=most)
        self._unheard[repository, reference] = True
        try:
            async with await self._ask(question) as response:
                hint = _of(reference, responses.hint(response))
        except TooManyRequests:  # that is about the rate, and not about HEADs
            self._unheard.pop((repository, reference), None)
            raise
        except (Denied, ContentRefused, UpstreamMisbehaved):
            return Hint()
        if hint.digest is not None:
            self._unheard.pop((repository, reference), None)
            self.shortcuts.worked(url, "head manifest")
        return hint

    async def get_manifest(
        self, repository: str, reference: Reference, ask: Ask, *, insist: bool = True
    ) -> Manifest:
        """Fetch and prove a manifest: on Docker Hub, this is a pull.

        One that came wrong, or not to its end, is asked for once more, unless `insist` is off.
        Raises ManifestUnknown, Denied, or UpstreamFailure.
        """
        try:
            pulled = await self._pull(repository, reference, ask)
        except (ManifestWrong, BrokenOff):
            if not insist:
                raise
            pulled = await self._pull(repository, reference, ask)
        if self._unheard.pop((repository, reference), False):
            self.shortcuts.failed(self.origin.url, "head manifest")
        return pulled

    async def _pull(self, repository: str, reference: Reference, ask: Ask) -> Manifest:
        url = self._url(repository, "manifests", reference)
        question = _Question("GET", "manifest", repository, url, _accept(), ask=ask)
        async with await self._ask(question) as response:
            responses.check(response, ManifestUnknown(f"upstream has no {repository}:{reference}"))
            try:
                async with deadline(self._wire.patience.silence, url):
                    body = await read_capped(response, manifest.MAX_SIZE, "manifest", ManifestUnfit)
            except UpstreamUnavailable as error:
                raise BrokenOff(error.message) from error
            self._count(len(body))
            body = responses.decoded(response, body)
            promised, told = responses.digest(response), responses.media_type(response)
        named = reference if isinstance(reference, Digest) else promised
        return await documents.aside(manifest.prove, body, named, told)

    async def head_blob(self, repository: str, digest: Digest) -> int | None:
        """Ask by HEAD for a blob's size in bytes: a hint. None where only a GET tells."""
        if not self.shortcuts.worth(self.origin.url, "head blob"):
            return None
        url = self._url(repository, "blobs", digest)
        most = self._wire.patience.answer * _HEAD_SHARE
        question = _Question("HEAD", "blob", repository, url, most=most)
        with suppress(UpstreamFailure):
            async with await self._ask(question) as response:
                return hinted_size(response, digest)
        return None

    async def find_blob(
        self, repository: str, digest: Digest, size: int | None = None
    ) -> int | None:
        """Ask whether a repository has a blob; returns its size in bytes, None if that is not told.

        A GET, closed after its headers, decides where HEAD does not say yes, or another `size`
        than what is known. Raises BlobUnknown, Denied, or UpstreamFailure; UpstreamMisbehaved
        where only the blob's bytes can tell.
        """
        hint = await self.head_blob(repository, digest)
        if hint is not None and size in (None, hint):
            self.shortcuts.worked(self.origin.url, "head blob")
            return hint
        question = _Question("GET", "blob", repository, self._url(repository, "blobs", digest))
        async with await self._ask(question) as response:
            responses.check(response, _blob_unknown(question))
            told = told_size(response, digest, size)
        self.shortcuts.failed(self.origin.url, "head blob")
        return told

    @asynccontextmanager
    async def open_blob(
        self,
        repository: str,
        digest: Digest,
        wanted: Wanted,
        whole_after: tuple[type[UpstreamFailure], ...] = (),
    ) -> AsyncIterator[BlobBody]:
        """Open a blob's bytes that are wanted; where the body begins is for it to say.

        A range is a shortcut. Where the answer is not the right part, that is a RangeRefused; where
        there is no answer, an UpstreamUnreachable. `whole_after` says after which of these the
        whole is asked for, once, instead of raising it.
        Raises BlobUnknown, Denied, or UpstreamFailure.
        """
        url = self._url(repository, "blobs", digest)
        question = _Question("GET", "blob", repository, url, size="large")
        async with self._wire.turns["large"]:
            if wanted.range is None:
                response, part = await self._ask_whole(question)
            else:
                ranged = replace(question, headers={hdrs.RANGE: wanted.range})
                response, part = await self._ask_part(ranged, wanted, whole_after)
            async with response:
                yield BlobBody(response, part, self._count, self._wire.link.pace)

    async def _ask_part(
        self,
        question: _Question,
        wanted: Wanted,
        whole_after: tuple[type[UpstreamFailure], ...],
    ) -> tuple[aiohttp.ClientResponse, Part]:
        """Ask for a part or, where that decides nothing, for the whole."""
        with suppress(*whole_after):
            return await self._ask_range(question, wanted)
        response, part = await self._ask_whole(replace(question, headers={}))
        if part.size is None or wanted.start < part.size:  # else a range was rightly refused
            self.shortcuts.failed(self.origin.url, "range")
        return response, part

    async def _ask_range(
        self, question: _Question, wanted: Wanted
    ) -> tuple[aiohttp.ClientResponse, Part]:
        """Ask for a part; raises RangeRefused, or UpstreamUnreachable where no answer came."""
        if not self.shortcuts.worth(self.origin.url, "range"):
            raise RangeRefused("upstream refused ranges of late")
        try:
            response = await self._ask(question)
        except UpstreamUnreachable:
            raise
        except UpstreamFailure as failure:
            raise RangeRefused(failure.message) from failure
        part = read_part(response, wanted)
        if part is None:
            response.release()
            raise RangeRefused("upstream sends something else than the range that was asked for")
        if response.status == 206:
            self.shortcuts.worked(self.origin.url, "range")
        return response, part

    async def _ask_whole(self, question: _Question) -> tuple[aiohttp.ClientResponse, Part]:
        response = await self._ask(question)
        try:
            responses.check(response, _blob_unknown(question))
            return response, read_whole(response)
        except RegistryError:
            response.release()
            raise

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

    @asynccontextmanager
    async def answer(
        self,
        method: Literal["HEAD", "GET"],
        kind: Literal["manifest", "blob"],
        repository: str,
        reference: Reference,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask for content to learn whether it is given; no status is an error here.

        Raises Denied where the token server does that, else UpstreamFailure where no answer came.
        """
        url = self._url(repository, f"{kind}s", reference)
        headers = _accept() if kind == "manifest" else {}
        most = self._wire.patience.answer * _HEAD_SHARE if method == "HEAD" else math.inf
        question = _Question(method, kind, repository, url, headers, most=most)
        async with await self._ask(question) as response:
            yield response

    async def welcomes(self) -> bool:
        """Ask at `/v2/`, with a fresh token for no repository, whether the registry answers.

        Raises UpstreamFailure.
        """
        self.forget("")
        url = URL(f"{str(self.origin.url).rstrip('/')}/v2/", encoded=True)
        async with await self._ask(_Question("GET", "token", "", url)) as response:
            return response.status == 200

    def forget(self, repository: str) -> None:
        """Have the next question about a repository shown a fresh token."""
        self._login.forget(self.origin.named(repository))

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
        patience = min(self._wire.patience.answer, question.most)
        async with self._turn(question), deadline(patience, question.url):
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
        content = question.kind in ("manifest", "blob")
        if elsewhere and content and 400 <= response.status < 500 and response.status != 416:
            host, status = response.url.host, response.status
            raise ContentRefused(f"{host}, where {self.origin.name} redirects to, answers {status}")

    def _refuse_rate(self, question: _Question, response: aiohttp.ClientResponse) -> None:
        """Raise what a 429 means; what it was said about is left alone for a while."""
        wait = read_retry_after(response.headers)
        if self._is_spent(question, response):
            raise PullLimitSpent(f"{self.origin.name}'s pull limit is spent", retry_after=wait)
        self._wire.back_off(response, question.topic, question.url)
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
        if question.kind not in ("manifest", "blob"):
            return
        if 200 <= status < 300:
            self._on_access(question.repository, True)
        elif status in (401, 403) and question.plain:
            self._on_access(question.repository, False)

    async def _ask_with_login(self, question: _Question) -> aiohttp.ClientResponse:
        repository = self.origin.named(question.repository)
        return await Visit(self._login, repository, partial(self._send, question)).run()

    async def _send(self, question: _Question, grant: Grant) -> aiohttp.ClientResponse:
        headers = question.headers
        if grant.header:
            headers = {**headers, hdrs.AUTHORIZATION: grant.header}
        tell = partial(self._tell, question)
        return await self._wire.ask(
            question.method, question.url, headers, tell, question.size, kind=question.topic
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


def _of(reference: Reference, hint: Hint) -> Hint:
    """Read a HEAD of a digest: where it says that there is a manifest, it can be of that only."""
    if not isinstance(reference, Digest) or hint.digest == reference:
        return hint
    if hint.digest is None and hint.media_type and hint.size:
        return replace(hint, digest=reference)
    return Hint(missing=hint.missing)


def _blob_unknown(question: _Question) -> BlobUnknown:
    return BlobUnknown(f"upstream has no {question.url.name} in {question.repository}")


def _worth_asking_again(question: _Question, error: BaseException) -> bool:
    """Whether the same may be answered a moment later; a shortcut's refusal leaves it at that."""
    if isinstance(error, ContentRefused):
        return question.plain
    return isinstance(error, UpstreamUnavailable) and not isinstance(error, UpstreamDown)


def _accept() -> dict[str, str]:
    return {hdrs.ACCEPT: media.ACCEPT}
