"""All fetches: one per digest, each for as long as somebody wants it."""

from __future__ import annotations

import asyncio
import logging

from mirror.cache.fetch import Fetch
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.store.store import Store
from mirror.upstream.registry import Registry

_log = logging.getLogger(__name__)

_SMALL = 8 * 1024 * 1024  # bytes still to come that are fetched for nobody rather than lost


class Fetches:
    """Runs fetches. `grace` is how long, in s, one goes on for nobody; `most` how many run."""

    def __init__(self, store: Store, grace: float, most: int) -> None:
        self._store = store
        self._grace = grace
        self._slots = asyncio.Semaphore(most)
        self._running: dict[Digest, Fetch] = {}
        self._tasks: dict[Digest, asyncio.Task[None]] = {}
        self._stopping: set[Digest] = set()

    def __len__(self) -> int:
        return len(self._running)

    def __repr__(self) -> str:
        return f"<Fetches: {len(self)} running, {self.followers} followers>"

    @property
    def followers(self) -> int:
        """How many clients follow."""
        return sum(fetch.followers for fetch in self._running.values())

    async def close(self) -> None:
        """Stop all; what they wrote stays to be resumed."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def running(self, digest: Digest) -> Fetch | None:
        """Return the fetch that one could join."""
        return None if digest in self._stopping else self._running.get(digest)

    async def stopped(self, digest: Digest) -> None:
        """Wait until no fetch of this digest is about to end."""
        while digest in self._stopping:
            await asyncio.wait([self._tasks[digest]])
            await asyncio.sleep(0)  # for the task's own callback, which takes it off the books

    async def join(self, registry: Registry, repository: Repository, digest: Digest) -> Fetch:
        """Join the running fetch or start one; `leave` is owed."""
        await self.stopped(digest)
        fetch = self._running.get(digest)
        if fetch is None:
            fetch = self._running[digest] = Fetch(registry, repository, digest, self._store)
            task = self._tasks[digest] = asyncio.create_task(self._run(fetch))
            task.add_done_callback(lambda done: self._ended(digest, done))
        fetch.join(repository)
        return fetch

    def leave(self, fetch: Fetch) -> None:
        """Count a follower out; nobody left may end the fetch, after a while."""
        fetch.leave()
        if fetch.followers == 0 and self._running.get(fetch.digest) is fetch:
            asyncio.get_running_loop().call_later(self._grace, self._reconsider, fetch)

    def _reconsider(self, fetch: Fetch) -> None:
        """Stop a fetch that nobody follows, unless it is small or nearly done."""
        if fetch.followers or self._running.get(fetch.digest) is not fetch:
            return
        if fetch.size is not None:
            rest = fetch.size - fetch.visible
            if rest <= _SMALL or rest <= fetch.size // 2:
                return
        _log.info("nobody follows %r any more: stopped", fetch)
        self._stopping.add(fetch.digest)
        self._tasks[fetch.digest].cancel()

    async def _run(self, fetch: Fetch) -> None:
        async with self._slots:
            await fetch.run()

    def _ended(self, digest: Digest, task: asyncio.Task[None]) -> None:
        del self._running[digest], self._tasks[digest]
        self._stopping.discard(digest)
        if not task.cancelled() and (error := task.exception()):
            _log.error("a fetch of %s ended in a way nobody foresaw", digest, exc_info=error)
