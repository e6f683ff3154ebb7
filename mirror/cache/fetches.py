"""All fetches: one per digest and upstream, each for as long as somebody wants it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from mirror.cache.fetch import Fetch
from mirror.cache.possession import Possession
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.store.store import Store
from mirror.upstream.registry import Registry

_log = logging.getLogger(__name__)

_SMALL = 8 * 1024 * 1024  # bytes still to come that are fetched for nobody rather than lost

Key = tuple[str, Digest]  # an upstream's name, and what it sends


@dataclass(slots=True)
class _Running:
    """A fetch and its task; one that is stopping can be waited for, but no longer be joined."""

    fetch: Fetch
    task: asyncio.Task[None]
    stopping: bool = False
    check: asyncio.TimerHandle | None = None  # whether anybody still wants it


class Fetches:
    """Runs fetches. `grace` is how long, in s, one goes on for nobody; `most` how many run."""

    def __init__(
        self,
        store: Store,
        possession: Possession,
        grace: float,
        most: int,
    ) -> None:
        self._store = store
        self._possession = possession
        self._grace = grace
        self._slots = asyncio.Semaphore(most)
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
        return None if running is None or running.stopping else running.fetch

    async def stopped(self, upstream: str, digest: Digest) -> None:
        """Wait until no fetch of this digest from there is about to end."""
        while (running := self._running.get((upstream, digest))) and running.stopping:
            await asyncio.wait([running.task])
            await asyncio.sleep(0)  # for the task's own callback, which takes it off the books

    async def join(self, registry: Registry, repository: Repository, digest: Digest) -> Fetch:
        """Join the running fetch or start one; `leave` is owed.

        One of another upstream is not joined: what it brings may be private, and it may be slow.
        """
        key = repository.upstream, digest
        await self.stopped(*key)
        running = self._running.get(key)
        if running is None:
            running = self._running[key] = self._start(key, registry, repository)
        running.fetch.join(repository)
        return running.fetch

    def _start(self, key: Key, registry: Registry, repository: Repository) -> _Running:
        digest = key[1]
        others = (each.fetch for (_, other), each in self._running.items() if other == digest)
        apart = any(not other.apart for other in others)
        fetch = Fetch(registry, repository, digest, self._store, self._possession, apart=apart)
        task = asyncio.create_task(self._run(fetch))
        task.add_done_callback(lambda done: self._ended(key, done))
        return _Running(fetch, task)

    def leave(self, fetch: Fetch) -> None:
        """Count a follower out; nobody left may end the fetch, after a while."""
        fetch.leave()
        running = self._running.get((fetch.repository.upstream, fetch.digest))
        if fetch.followers or running is None or running.fetch is not fetch:
            return
        if running.check is not None:
            running.check.cancel()
        loop = asyncio.get_running_loop()
        running.check = loop.call_later(self._grace, self._reconsider, running)

    def _reconsider(self, running: _Running) -> None:
        """Stop a fetch that nobody follows, unless it is small or nearly done."""
        fetch = running.fetch
        if fetch.followers:
            return
        if fetch.size is not None:
            rest = fetch.size - fetch.visible
            if rest <= _SMALL or rest <= fetch.size // 2:
                return
        _log.info("nobody follows %r any more: stopped", fetch)
        running.stopping = True
        running.task.cancel()

    async def _run(self, fetch: Fetch) -> None:
        async with self._slots:
            await fetch.run()

    def _ended(self, key: Key, task: asyncio.Task[None]) -> None:
        running = self._running.pop(key)
        if running.check is not None:
            running.check.cancel()
        if not task.cancelled() and (error := task.exception()):
            _log.error("a fetch of %s ended in a way nobody foresaw", key[1], exc_info=error)
