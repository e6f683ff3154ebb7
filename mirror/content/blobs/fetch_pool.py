"""The pool of fetches: one per digest and upstream, each for as long as it has followers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mirror.content.blobs.allowance import Allowance
from mirror.content.blobs.fetch import Fetch
from mirror.content.blobs.fetch_partial import FetchPartial
from mirror.content.blobs.followers import Follower
from mirror.content.blobs.possession import Possession
from mirror.content.memory_cache import MemoryCache
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.storage.store import Store
from mirror.upstream.blob_source import BlobSource
from mirror.upstream.connection_queue import CLIENT
from mirror.util.fair_semaphore import FairSemaphore, Owners
from mirror.util.uncancelled import run_to_completion, wait_until_done
from mirror.util.units import human

_log = logging.getLogger(__name__)

_SMALL = 8 * 1024 * 1024  # bytes left that are fetched without followers rather than lost
_SHARED = 8  # fetches at a time, from which on some places are kept free for other clients
_REPRIEVE = 60.0  # seconds for these: an upstream that drips would hold a place for hours

Key = tuple[str, Digest]  # an upstream's name, and the blob's digest


@dataclass(slots=True)
class _Running:
    """A fetch and its task; an ending one can be waited for, but no longer be joined."""

    fetch: Fetch
    partial: FetchPartial
    task: asyncio.Task[None]
    stopping: bool = False
    reprieved: bool = False  # it goes on without followers, for a while
    check: asyncio.TimerHandle | None = None  # stops it, if it has no followers by then
    began: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    @property
    def ending(self) -> bool:
        """Whether it is stopping, has failed and tidies up, or is over and still registered.

        Other tasks may run between a fetch's end, which closes its file, and the task's callback.
        """
        return self.stopping or self.fetch.failure is not None or self.fetch.ended

    @property
    def ending_text(self) -> str:
        """A text for the log: the fetch ends, and how far it came."""
        size = self.fetch.size
        of_all = "" if size is None else f" of {human(size)}"
        return (
            f"the download of {self.fetch.digest} ends after {human(self.partial.written)}{of_all}"
        )


@dataclass(frozen=True, slots=True)
class FetchState:
    """A fetch as it is now: `received` of `size` bytes, `rate` in bytes a second, for `seconds`."""

    repository: Repository
    digest: Digest
    received: int
    size: int | None
    rate: float
    seconds: float
    followers: int


@dataclass(frozen=True, slots=True)
class OtherFetch:
    """A fetch of the blob that a request may not follow: it is for other repositories, or ends.

    If it `needs_proof`, the request may follow it once upstream has said that its repository has
    the blob too, under the `size` in bytes, if that is known.
    """

    needs_proof: bool
    size: int | None = None


class FetchPool:
    """Runs fetches. `max_fetches` is how many run at a time, for all `sources` together.

    `abandon_after` is how long, in seconds, a fetch goes on without followers, and `reprieve` how
    much longer where little is left. `on_end` is told of each ended fetch: its upstream, and the
    bytes and seconds of its last body.
    """

    def __init__(
        self,
        sources: Mapping[str, BlobSource],
        store: Store,
        possession: Possession,
        memory: MemoryCache,
        abandon_after: float,
        max_fetches: int,
        reprieve: float = _REPRIEVE,
        on_end: Callable[[str, int, float], None] = lambda *_: None,
    ) -> None:
        self._store = store
        self._possession = possession
        self._memory = memory
        self._abandon_after = abandon_after
        self._reprieve = reprieve
        self._on_end = on_end
        self._sources = sources
        self.max_fetches = max_fetches
        self._places = FairSemaphore(max_fetches)
        self._shared = max_fetches >= _SHARED
        self._allowance = Allowance(lambda: store.max_size, sources)
        self._running: dict[Key, _Running] = {}

    def __len__(self) -> int:
        return len(self._running)

    def __repr__(self) -> str:
        return f"<FetchPool: {len(self)} running, {self.followers} followers>"

    @property
    def followers(self) -> int:
        """The number of followers of all fetches."""
        return sum(running.fetch.followers for running in self._running.values())

    def states(self) -> list[FetchState]:
        """Return the state of each fetch, the oldest first."""
        return [_state(running) for running in self._running.values()]

    def change(self, abandon_after: float, max_fetches: int) -> None:
        """Take up other bounds; running fetches go on."""
        self._abandon_after = abandon_after
        self.max_fetches = max_fetches
        self._places.change(max_fetches)
        self._shared = max_fetches >= _SHARED

    async def close(self) -> None:
        """Stop all fetches; partials stay to be resumed, a proven blob is published first."""
        for running in self._running.values():
            if not running.fetch.proven:
                _log.info("%s: the mirror stops", running.ending_text)
                running.task.cancel()
        tasks = [running.task for running in self._running.values()]
        await run_to_completion(wait_until_done(tasks))  # the store must not close before

    def size(self, repository: Repository, digest: Digest) -> int | None:
        """Return the size of a blob that is under way for a repository; None if it is not known."""
        running = self._running.get((repository.upstream, digest))
        if running is None or running.ending or not running.fetch.serves(repository):
            return None
        return running.fetch.size

    def attach(
        self, repository: Repository, digest: Digest, proof: int | None = None
    ) -> Follower | OtherFetch:
        """Follow the fetch of a blob: the running one or, if there is none, a new one.

        `proof` is the size, in bytes, under which upstream said that the repository has the blob.
        A fetch of another upstream is not followed: its content may be private, and it may be slow.
        """
        source, key = self._sources[repository.upstream], (repository.upstream, digest)
        running = self._running.get(key)
        joined = running is not None
        if running is None:
            running = self._running[key] = self._start(key, source, repository)
        elif running.ending:
            return OtherFetch(needs_proof=False)
        elif not running.fetch.admits(repository, proof):
            return OtherFetch(needs_proof=proof is None, size=running.fetch.size)
        running.fetch.join(repository, proof)
        return Follower(running.fetch, repository, self._leave, joined=joined)

    async def others_over(self, repository: Repository, digest: Digest) -> None:
        """Wait until a running fetch of the blob is over, unless it serves this repository."""
        while running := self._running.get((repository.upstream, digest)):
            if not running.ending and running.fetch.serves(repository):
                return
            await _over(running)

    async def published(self, upstream: str, digest: Digest) -> None:
        """Wait until the running fetch of a blob is over: it is stored then, or could not be."""
        if running := self._running.get((upstream, digest)):
            await _over(running)

    def _start(self, key: Key, source: BlobSource, repository: Repository) -> _Running:
        digest = key[1]
        others = (each.partial for (_, other), each in self._running.items() if other == digest)
        isolated = any(not other.isolated for other in others)
        kept = self._store, self._possession, self._allowance
        partial = FetchPartial(source, repository, digest, *kept, isolated=isolated)
        fetch = Fetch(source, repository, digest, self._store, partial, self._memory)
        task = asyncio.create_task(self._run(fetch))
        source.leases.take()
        task.add_done_callback(lambda _: source.leases.give())
        task.add_done_callback(lambda done: self._ended(key, done))
        return _Running(fetch, partial, task)

    def _leave(self, fetch: Fetch, repository: Repository) -> None:
        """Remove a follower; without any the fetch may end, after a while."""
        fetch.leave(repository)
        running = self._running.get((repository.upstream, fetch.digest))
        if fetch.followers or running is None or running.fetch is not fetch:
            return
        if running.check is not None:
            running.check.cancel()
        running.reprieved = False
        self._check_after(self._abandon_after, running)

    def _check_after(self, seconds: float, running: _Running) -> None:
        loop = asyncio.get_running_loop()
        running.check = loop.call_later(seconds, self._reconsider, running)

    def _reconsider(self, running: _Running) -> None:
        """Stop a fetch without followers; a small or nearly complete one a while later."""
        fetch = running.fetch
        if fetch.followers or fetch.proven:
            return
        if _nearly_done(fetch) and not running.reprieved:
            running.reprieved = True
            self._check_after(self._reprieve, running)
            return
        _log.info("%s: no client follows it any more", running.ending_text)
        running.stopping = True
        running.task.cancel()

    async def _run(self, fetch: Fetch) -> None:
        upstream, client = fetch.repository.upstream, CLIENT.get()
        owners: Owners = () if len(self._sources) == 1 else (upstream,)
        if self._shared:  # made-up digests of one client must not hold all places
            owners = *owners, f"{client} of {upstream}"
        try:
            async with self._places.taken(*owners):
                await fetch.run()
        except asyncio.CancelledError:
            fetch.stopped()
            raise

    def _ended(self, key: Key, task: asyncio.Task[None]) -> None:
        running = self._running.pop(key)
        if (pace := running.fetch.pace) is not None:
            now = asyncio.get_running_loop().time()
            self._on_end(key[0], pace.received, now - pace.since)
        if running.check is not None:
            running.check.cancel()
        if not task.cancelled() and (error := task.exception()):
            _log.error("unexpected failure of a fetch of %s", key[1], exc_info=error)


def _state(running: _Running) -> FetchState:
    fetch, now = running.fetch, asyncio.get_running_loop().time()
    return FetchState(
        repository=fetch.repository,
        digest=fetch.digest,
        received=running.partial.written,
        size=fetch.size,
        rate=0.0 if fetch.pace is None else fetch.pace.rate(now),
        seconds=now - running.began,
        followers=fetch.followers,
    )


async def _over(running: _Running) -> None:
    """Wait until a fetch is no longer registered."""
    await asyncio.wait([running.task])
    await asyncio.sleep(0)  # for the task's own callback, which removes it


def _nearly_done(fetch: Fetch) -> bool:
    if fetch.size is None:
        return False
    rest = fetch.size - fetch.visible
    return rest <= max(_SMALL, fetch.size // 2)
