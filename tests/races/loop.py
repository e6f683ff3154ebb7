"""An event loop in virtual time; outer events come in a seeded order."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVarTuple, Unpack

from tests.races.clock import Chance, Clock
from tests.races.threads import Threads

Args = TypeVarTuple("Args")
_order = itertools.count(1)


class NumberedFuture(asyncio.Future[Any]):
    """A future with the same place in sets in each run."""

    def __init__(self, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._number = next(_order)

    def __hash__(self) -> int:
        return self._number


class NumberedTask(asyncio.Task[Any]):
    """A task with the same place in sets in each run."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], **more: Any) -> None:
        self._number = next(_order)
        super().__init__(coroutine, **more)

    def __hash__(self) -> int:
        return self._number


class SeededLoop(asyncio.SelectorEventLoop):
    """A loop in which time passes only while nothing is ready.

    `held` gets the seconds for which each handle held the loop. Ready handles keep their order
    within one future's callbacks, and between steps of one task; with `shuffled` they keep no
    other order, as if all events had come at the same moment.
    """

    def __init__(
        self, clock: Clock, threads: Threads, chance: Chance, *, shuffled: bool = False
    ) -> None:
        self._clock = clock  # before the base class asks for the time
        super().__init__()
        self._threads = threads
        self._chance = chance
        self._shuffled = shuffled
        self._inbox: deque[asyncio.Handle] = deque()
        self.signals: dict[int, Callable[[], object]] = {}
        self.held: Callable[[float, str], None] = lambda *_: None
        self.set_task_factory(
            lambda loop, coroutine, **more: NumberedTask(coroutine, loop=loop, **more)
        )

    def time(self) -> float:
        return self._clock.now

    def create_future(self) -> asyncio.Future[Any]:
        return NumberedFuture(loop=self)

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[Args]], object],
        *args: *Args,
        context: Context | None = None,
    ) -> asyncio.Handle:
        if threading.get_ident() == getattr(self, "_thread_id", None):
            return self.call_soon(callback, *args, context=context)
        handle = asyncio.Handle(callback, args, self, context)
        self._inbox.append(handle)
        return handle

    def add_signal_handler(
        self, sig: int, callback: Callable[[Unpack[Args]], object], *args: *Args
    ) -> None:
        self.signals[sig] = lambda: callback(*args)

    def remove_signal_handler(self, sig: int) -> bool:
        return self.signals.pop(sig, None) is not None

    def _run_once(self) -> None:
        ready: deque[asyncio.Handle] = self._ready  # type: ignore[attr-defined]
        while self._inbox:
            ready.append(self._inbox.popleft())
        if not ready:
            self._await_event()
        batch = list(ready)
        ready.clear()
        for handle in self._permuted(batch) if self._shuffled else batch:
            if handle.cancelled():
                continue
            begun = time.thread_time()
            handle._run()
            self.held(time.thread_time() - begun, repr(handle))

    def _await_event(self) -> None:
        """Run the next thread or timer; look at the sockets on the way."""
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0].cancelled():
            heapq.heappop(scheduled)._scheduled = False  # type: ignore[attr-defined]
        timer = scheduled[0].when() if scheduled else None
        thread = self._threads.next_at
        if thread is not None and (timer is None or thread <= timer):
            self._threads.turn()
            return
        selector = self._selector  # type: ignore[attr-defined]
        self._process_events(selector.select(0 if timer is not None else 1))  # type: ignore[attr-defined]
        if self._ready or timer is None:  # type: ignore[attr-defined]
            return
        self._clock.advance(timer)
        handle = heapq.heappop(scheduled)
        handle._scheduled = False  # type: ignore[attr-defined]
        self._ready.append(handle)  # type: ignore[attr-defined]

    def _permuted(self, batch: list[asyncio.Handle]) -> list[asyncio.Handle]:
        """Put groups in another order; a group is the handles of one future."""
        groups: dict[object, list[asyncio.Handle]] = {}
        for number, handle in enumerate(batch):
            args = handle._args or ()
            future = next((each for each in args if isinstance(each, asyncio.Future)), None)
            groups.setdefault(future or ("alone", number), []).append(handle)
        rest, order = list(groups.values()), list[asyncio.Handle]()
        while rest:
            at = int(self._chance.share("order") * len(rest)) if len(rest) > 1 else 0
            order.extend(rest.pop(at))
        return order
