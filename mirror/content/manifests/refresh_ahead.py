"""The refresh ahead: asks upstream about the tags in use before they end, by HEADs, paced."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from mirror.content.manifests.resolver import ManifestResolver
from mirror.content.manifests.tags_in_use import Followed, TagsInUse
from mirror.content.outcome import Ahead
from mirror.identity.client import MIRROR_ITSELF
from mirror.oci.errors import PullLimitSpent, RegistryError, ReserveKept
from mirror.oci.names import Repository
from mirror.upstream.connection_queue import CLIENT
from mirror.util.uncancelled import wait_until_done

_log = logging.getLogger(__name__)

_TURN = 0.05  # seconds between two HEADs to one upstream
# HEADs to one upstream at a time: so few that their silence alone opens no circuit breaker, and
# their refusals put no whole kind of request in backoff.
_AT_ONCE = 2
_LATELY = 120.0  # seconds since a client's request, in which a changed manifest is pulled at once
_REST = 60.0  # seconds without a HEAD to an upstream that failed or refused one
_LONGEST_REST = 600.0  # seconds, even for a longer Retry-After
_LONGEST_NAP = 1.0  # seconds: a tag may be due sooner than the next one was


@dataclass(slots=True)
class _Pace:
    """The HEADs under way to one upstream, and until when it gets no more."""

    running: int = 0
    rests_until: float = -math.inf


class RefreshAhead:
    """Keeps tags in use fresh, so that no client waits for a HEAD; no counted pull is spent.

    `serves` tells whether clients may read a repository at all. `results` counts the outcomes by
    upstream. `timer` is monotonic, in seconds.
    """

    def __init__(
        self,
        in_use: TagsInUse,
        manifests: ManifestResolver,
        serves: Callable[[Repository], bool],
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.in_use = in_use
        self._manifests = manifests
        self._serves = serves
        self._timer = timer
        self._paces: dict[str, _Pace] = {}
        self._running: set[asyncio.Task[None]] = set()
        self.results: Counter[tuple[str, Ahead]] = Counter()

    def __repr__(self) -> str:
        return f"<RefreshAhead: {self.in_use!r}, {len(self._running)} asked about>"

    async def run(self) -> None:
        """Ask until cancelled; HEADs under way are cancelled then."""
        CLIENT.set(MIRROR_ITSELF)
        try:
            while True:
                self.begin()
                await asyncio.sleep(min(_LONGEST_NAP, max(_TURN, self.in_use.next_due())))
        finally:
            for task in self._running:
                task.cancel()
            await wait_until_done([*self._running])

    def begin(self) -> int:
        """Ask each upstream about one tag that is due, if it is well; returns the HEADs begun."""
        begun = 0
        for upstream in [*self.in_use.upstreams()]:
            pace = self._paces.setdefault(upstream, _Pace())
            if pace.running < _AT_ONCE and self._timer() >= pace.rests_until:
                begun += self._begin(upstream, pace)
        return begun

    def _begin(self, upstream: str, pace: _Pace) -> bool:
        entry = self.in_use.take(upstream)
        if entry is None:
            return False
        if not self._serves(entry.key.repository):
            self.in_use.leave(entry)
            return False
        if not self._manifests.may_ask_ahead(entry.key):
            self.in_use.put_back(entry, _LONGEST_NAP)
            return False
        pace.running += 1
        task = asyncio.create_task(self._ask(entry, pace), name=f"ahead of {entry.key}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return True

    async def settled(self) -> None:
        """Wait for the HEADs under way."""
        await wait_until_done([*self._running])

    async def _ask(self, entry: Followed, pace: _Pace) -> None:
        key = entry.key
        try:
            result = await self._manifests.revalidate_ahead(key)
            if result is Ahead.CHANGED and self._timer() - entry.use.last <= _LATELY:
                await self._manifests.pull_ahead(key)
        except (PullLimitSpent, ReserveKept) as failure:  # of this tag's new digest, or the gate's
            result = Ahead.FAILED
            _log.debug("no pull is left for the new digest of %s:%s: %s", *key, failure.message)
        except RegistryError as failure:
            result = Ahead.FAILED
            self._rest(pace, failure.retry_after)
            _log.debug("upstream does not tell ahead what %s:%s is: %s", *key, failure.message)
        except Exception:  # noqa: BLE001 - logged: the other tags are revalidated on
            result = Ahead.FAILED
            self._rest(pace)
            _log.exception("unexpected failure to ask about %s:%s ahead", *key)
        finally:
            pace.running -= 1
        self.results[key.repository.upstream, result] += 1
        _log.debug("%s:%s is asked about ahead of its end: %s", *key, result)
        if result is Ahead.UNDECIDED:
            self.in_use.leave(entry)
        else:
            self.in_use.put_back(entry)

    def _rest(self, pace: _Pace, retry_after: int | None = None) -> None:
        pace.rests_until = self._timer() + min(_LONGEST_REST, max(_REST, retry_after or 0))
