"""All fetches: one per digest and upstream, each for as long as somebody wants it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass

from mirror.cache.fetch import Fetch
from mirror.cache.place import Place
from mirror.cache.possession import Possession
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.store.store import Store
from mirror.upstream.registry import Registry

_log = logging.getLogger(__name__)

_SMALL = 8 * 1024 * 1024  # bytes still to come that are fetched for nobody rather than lost
_REPRIEVE = 60.0  # seconds for these: an upstream that drips would hold a place for hours

Key = tuple[str, Digest]  # an upstream's name, and what it sends


@dataclass(slots=True)
class _Running:
    """A fetch and its task; one that is ending can be waited for, but no longer be joined."""

    fetch: Fetch
    place: Place
    task: asyncio.Task[None]
    stopping: bool = False
    reprieved: bool = False  # it goes on for nobody, for a while
    check: asyncio.TimerHandle | None = None  # whether anybody still wants it

    @property
    def ending(self) -> bool:
        """Whether it is stopping, or has failed and tidies up."""
        return self.stopping or self.fetch.failure is not None


class Fetches:
    """Runs fetches. `most` is how many run at a time, for all `upstreams` together.

    `grace` is how long, in seconds, one goes on for nobody, and `reprieve` how much longer where
    little is left.
    """

    def __init__(
        self,
        upstreams: Collection[str],
        store: Store,
        possession: Possession,
        grace: float,
        most: int,
        reprieve: float = _REPRIEVE,
    ) -> None:
        self._store = store
        self._possession = possession
        self._grace = grace
        self._reprieve = reprieve
        share = most if len(upstreams) == 1 else _share(most)
        self._slots = asyncio.Semaphore(most)
        self._shares = {name: asyncio.Semaphore(share) for name in upstreams}
        self._running: dict[Key, _Running] = {}

    def __len__(self) -> int:
        return len(self._running)

    def __repr__(self) -> str:
        return f"<Fetches: {len(self)} running, {self.followers} followers>"

    @property
    def followers(self) -> int:
        """How many clients follow."""
        return sum(running.fetch.followers for running in self._running.values())

    async def close(self) -> None:
        """Stop all; what they wrote stays to be resumed."""
        tasks = [running.task for running in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def running(self, upstream: str, digest: Digest) -> Fetch | None:
        """Return the fetch that one could join."""
        running = self._running.get((upstream, digest))
        return None if running is None or running.ending else running.fetch

    async def stopped(self, upstream: str, digest: Digest) -> None:
        """Wait until no fetch of this digest from there is about to end."""
        while (running := self._running.get((upstream, digest))) and running.ending:
            await _over(running)

    async def others_over(self, repository: Repository, digest: Digest) -> None:
        """Wait until no fetch from there is under way but one that serves this repository."""
        while running := self._running.get((repository.upstream, digest)):
            if not running.ending and running.fetch.serves(repository):
                return
            await _over(running)

    async def join(
        self, registry: Registry, repository: Repository, digest: Digest, *, shown: bool = False
    ) -> Fetch:
        """Join the running fetch or start one; `leave` is owed.

        One of another upstream is not joined: what it brings may be private, and it may be slow.
        Nor is one of another repository, unless it was `shown` that this one has the blob, too.
        """
        key = repository.upstream, digest
        await (self.stopped(*key) if shown else self.others_over(repository, digest))
        running = self._running.get(key)
        if running is None:
            running = self._running[key] = self._start(key, registry, repository)
        running.fetch.join(repository)
        return running.fetch

    def _start(self, key: Key, registry: Registry, repository: Repository) -> _Running:
        digest = key[1]
        others = (each.place for (_, other), each in self._running.items() if other == digest)
        apart = any(not other.apart for other in others)
        place = Place(registry, repository, digest, self._store, self._possession, apart=apart)
        fetch = Fetch(registry, repository, digest, self._store, place)
        task = asyncio.create_task(self._run(fetch))
        task.add_done_callback(lambda done: self._ended(key, done))
        return _Running(fetch, place, task)

    def leave(self, fetch: Fetch) -> None:
        """Count a follower out; nobody left may end the fetch, after a while."""
        fetch.leave()
        running = self._running.get((fetch.repository.upstream, fetch.digest))
        if fetch.followers or running is None or running.fetch is not fetch:
            return
        if running.check is not None:
            running.check.cancel()
        running.reprieved = False
        self._check_after(self._grace, running)

    def _check_after(self, seconds: float, running: _Running) -> None:
        loop = asyncio.get_running_loop()
        running.check = loop.call_later(seconds, self._reconsider, running)

    def _reconsider(self, running: _Running) -> None:
        """Stop a fetch that nobody follows; one that is small or nearly done a while later."""
        fetch = running.fetch
        if fetch.followers or fetch.proven:
            return
        if _nearly_done(fetch) and not running.reprieved:
            running.reprieved = True
            self._check_after(self._reprieve, running)
            return
        _log.info("nobody follows %r any more: stopped", fetch)
        running.stopping = True
        running.task.cancel()

    async def _run(self, fetch: Fetch) -> None:
        # Its own share first: who waits for that holds no place of the others'.
        async with self._shares[fetch.repository.upstream], self._slots:
            await fetch.run()

    def _ended(self, key: Key, task: asyncio.Task[None]) -> None:
        running = self._running.pop(key)
        if running.check is not None:
            running.check.cancel()
        if not task.cancelled() and (error := task.exception()):
            _log.error("a fetch of %s ended in a way nobody foresaw", key[1], exc_info=error)


async def _over(running: _Running) -> None:
    """Wait until a fetch is off the books."""
    await asyncio.wait([running.task])
    await asyncio.sleep(0)  # for the task's own callback, which takes it off


def _share(most: int) -> int:
    """Return how many of all fetches may be one upstream's: three quarters, but never all."""
    return max(1, min(most - 1, -(-most * 3 // 4)))


def _nearly_done(fetch: Fetch) -> bool:
    if fetch.size is None:
        return False
    rest = fetch.size - fetch.visible
    return rest <= max(_SMALL, fetch.size // 2)
