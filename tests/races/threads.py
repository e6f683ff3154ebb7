"""Threads that take turns: one runs at a time, up to its next blocking call.

A blocking call (a rename, a sync, a statement, …) is a gate: the thread waits there for its next
turn, which comes after a drawn virtual time.
"""

from __future__ import annotations

import concurrent.futures
import functools
import heapq
import io
import itertools
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures.thread import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import aiosqlite.core

from tests.races.clock import Clock

_STUCK = 20.0  # true seconds in which a thread reaches a gate, or its end
_HANDED_OUT = 8  # characters of a digest or path in a label

Delay = Callable[[str], float]  # seconds of virtual time, by label


class Job:
    """The work of a thread, and its result."""

    def __init__(self, label: str, work: Callable[[], Any], done: Callable[[Job], None]) -> None:
        self.label = label
        self.done = done
        self.result: Any = None
        self.error: BaseException | None = None
        self._work = work

    def run(self) -> None:
        """Do the work, and keep its result or error."""
        try:
            self.result = self._work()
        except BaseException as error:  # noqa: BLE001 - it is handed on
            self.error = error


class Worker:
    """A true thread that runs when it is told to, and stops at gates."""

    def __init__(self) -> None:
        self.job: Job | None = None
        self._turn = threading.Semaphore(0)
        self._back = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def ident(self) -> int | None:
        """The identifier of the thread."""
        return self._thread.ident

    def go(self) -> bool:
        """Let the thread run up to its next gate; tells whether its job is done."""
        self._turn.release()
        if not self._back.acquire(timeout=_STUCK):
            raise RuntimeError(f"a thread blocks on what is no gate: {self.job and self.job.label}")
        return self.job is None or self.job_done

    def wait(self) -> None:
        """Wait at a gate for the next turn."""
        self.job_done = False
        self._back.release()
        self._turn.acquire()

    def end(self) -> None:
        """Let the thread end; it must have no job."""
        self.job = None
        self._turn.release()

    def _run(self) -> None:
        while True:
            self._turn.acquire()
            if self.job is None:
                return
            self.job.run()
            self.job_done = True
            self._back.release()


class Lane:
    """Jobs of at most `most` threads, first come, first served."""

    def __init__(self, threads: Threads, most: int) -> None:
        self.waiting: deque[Job] = deque()
        self.running = 0
        self._threads = threads
        self._most = most
        self._idle: list[Worker] = []

    def put(self, job: Job) -> None:
        """Add a job."""
        self.waiting.append(job)
        self.start()

    def start(self) -> None:
        """Begin waiting jobs while a thread is free."""
        while self.waiting and self.running < self._most:
            self.running += 1
            worker = self._idle.pop() if self._idle else Worker()
            worker.job = self.waiting.popleft()
            self._threads.wait(worker, self, f"begin {worker.job.label}")

    def ended(self, worker: Worker) -> None:
        """Take a thread back once its job is done."""
        self.running -= 1
        self._idle.append(worker)
        self.start()

    def close(self) -> None:
        """Let idle threads end."""
        while self._idle:
            self._idle.pop().end()


class Threads:
    """All threads, and their order."""

    def __init__(self, clock: Clock) -> None:
        self.delay: Delay = lambda _: 0.0
        self.on_gate: Callable[[str], None] = lambda _: None
        self.on_loop: Callable[[str], None] = lambda _: None
        self.lanes: list[Lane] = []
        self._clock = clock
        self._order = itertools.count()
        self._due: list[tuple[float, int, Worker, Lane]] = []
        self._home: dict[int | None, tuple[Worker, Lane]] = {}
        self._loop_thread = threading.get_ident()

    @property
    def next_at(self) -> float | None:
        """The time of the next turn."""
        return self._due[0][0] if self._due else None

    @property
    def busy(self) -> list[str]:
        """The labels of the jobs under way."""
        return [worker.job.label for _, _, worker, _ in self._due if worker.job is not None]

    def lane(self, most: int) -> Lane:
        """Make room for so many more threads."""
        lane = Lane(self, most)
        self.lanes.append(lane)
        return lane

    def wait(self, worker: Worker, lane: Lane, label: str) -> None:
        """Have a thread wait for its turn."""
        self._home[worker.ident] = worker, lane
        due = self._clock.now + self.delay(label)
        heapq.heappush(self._due, (due, next(self._order), worker, lane))

    def turn(self) -> None:
        """Let the next thread run up to its next gate."""
        due, _, worker, lane = heapq.heappop(self._due)
        self._clock.advance(due)
        if worker.go():
            job, worker.job = worker.job, None
            lane.ended(worker)
            if job is not None:
                job.done(job)

    def gate(self, label: str) -> None:
        """Wait for a turn where one of these threads is about to block."""
        home = self._home.get(threading.get_ident())
        if home is None:
            if threading.get_ident() == self._loop_thread:
                self.on_loop(label)
            return
        worker, lane = home
        self.on_gate(label)
        self.wait(worker, lane, label)
        worker.wait()

    def close(self) -> None:
        """Let idle threads end."""
        for lane in self.lanes:
            lane.close()
        self.lanes.clear()
        self._home.clear()


def name_of(work: Callable[..., Any]) -> str:
    """Return the name of a callable."""
    if isinstance(work, functools.partial):
        return name_of(work.func)
    owner = getattr(work, "__self__", None)
    return f"{type(owner).__name__ if owner is not None else ''}.{getattr(work, '__name__', '?')}"


def _shown(args: tuple[object, ...]) -> str:
    digests = (str(each).partition(":")[2][:_HANDED_OUT] for each in args if ":" in str(each)[:8])
    return next(digests, "")


def executor(threads: Threads) -> type[ThreadPoolExecutor]:
    """Return the class that stands in for a pool of threads."""

    class Executor(ThreadPoolExecutor):
        """A pool that gives its jobs to threads that take turns."""

        def __init__(self, max_workers: int | None = None, *args: Any, **more: Any) -> None:
            super().__init__(max_workers, *args, **more)
            self._lane = threads.lane(max_workers or 32)

        def submit(self, fn: Callable[..., Any], /, *args: Any, **more: Any) -> Future[Any]:
            future: Future[Any] = Future()
            work = functools.partial(_unless_cancelled, future, fn, *args, **more)
            label = f"{name_of(fn)} {_shown(args)}".strip()
            self._lane.put(Job(label, work, functools.partial(_settle, future)))
            return future

        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            if cancel_futures:
                self._lane.waiting.clear()
            while wait and (self._lane.running or self._lane.waiting):
                threads.gate("shutdown")

    return Executor


def _unless_cancelled(future: Future[Any], fn: Callable[..., Any], *args: Any, **more: Any) -> Any:
    if future.set_running_or_notify_cancel():
        return fn(*args, **more)
    return None


def _settle(future: Future[Any], job: Job) -> None:
    if future.cancelled():
        return
    if job.error is not None:
        future.set_exception(job.error)
    else:
        future.set_result(job.result)


class Statements:
    """The queue of a connection's thread, in place of aiosqlite's."""

    def __init__(self, threads: Threads) -> None:
        self._lane = threads.lane(1)

    def put_nowait(self, item: tuple[Any, Callable[[], Any]]) -> None:
        """Have a function called, and settle a future of the loop."""
        future, function = item

        def done(job: Job) -> None:
            if future is None or future.done():
                return
            loop = future.get_loop()
            if job.error is not None:
                loop.call_soon_threadsafe(aiosqlite.core.set_exception, future, job.error)
            else:
                loop.call_soon_threadsafe(aiosqlite.core.set_result, future, job.result)

        self._lane.put(Job(_statement(function), function, done))


class NoThread:
    """A thread that is never begun."""

    def __init__(self, *args: object, **more: object) -> None:
        pass

    def start(self) -> None:
        """Do nothing; the statements have a thread."""


def _statement(function: Callable[..., Any]) -> str:
    args = getattr(function, "args", ())
    return f"sql {' '.join(str(args[0]).split()[:3]) if args else ''}".strip()


@contextmanager
def taking_turns(threads: Threads) -> Iterator[None]:
    """Give the work of all threads to these, and make each blocking call a gate."""
    put_back: list[tuple[object, str, object]] = []

    def put(owner: object, name: str, value: object) -> None:
        put_back.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def gated(owner: object, name: str) -> None:
        true = getattr(owner, name)

        @functools.wraps(true)
        def waits(*args: Any, **more: Any) -> Any:
            threads.gate(f"{name} {_path(args)}".strip())
            return true(*args, **more)

        put(owner, name, waits)

    for name in ("rename", "unlink", "fsync", "fdatasync", "mkdir", "scandir", "pread", "truncate"):
        gated(os, name)
    gated(io, "open")
    pool = executor(threads)
    for module in [concurrent.futures, *map(sys.modules.__getitem__, _ours())]:
        if getattr(module, "ThreadPoolExecutor", None) is ThreadPoolExecutor:
            put(module, "ThreadPoolExecutor", pool)
    put(aiosqlite.core, "SimpleQueue", lambda: Statements(threads))
    put(aiosqlite.core, "Thread", NoThread)
    try:
        yield
    finally:
        for owner, name, value in reversed(put_back):
            setattr(owner, name, value)


def _ours() -> list[str]:
    return [name for name in sys.modules if name.startswith("mirror.")]


def _path(args: tuple[object, ...]) -> str:
    parts = [str(each).rsplit("/", 1)[-1] for each in args if "/" in str(each)]
    plain = (part.partition("whole-")[0] or "whole" for part in parts)  # its rest is random
    return " ".join(part.removeprefix("sha256-")[:_HANDED_OUT] for part in plain)
