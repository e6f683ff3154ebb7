"""Detached threads: not joined, even at the end of the process, as their work may never end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
_Job = tuple[Future[Any], Callable[[], Any]]


class DetachedThreads:
    """Up to `most` threads, started on demand. Python would join those of an executor."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._begun = 0
        self._idle = threading.Semaphore(0)

    def __repr__(self) -> str:
        return f"<DetachedThreads {self._name}: {self._begun} threads>"

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Queue work; its future can be cancelled until it begins. For one calling thread only."""
        future: Future[T] = Future()
        self._jobs.put((future, work))
        if not self._idle.acquire(blocking=False) and self._begun < self._most:
            self._begun += 1
            name = f"{self._name}_{self._begun}"
            threading.Thread(target=self._run, name=name, daemon=True).start()
        return future

    def close(self) -> None:
        """Cancel queued work; each thread ends after its current job."""
        with suppress(Empty):
            while (job := self._jobs.get_nowait()) is not None:
                job[0].cancel()
        for _ in range(self._begun):
            self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            _carry_out(*job)
            del job  # its objects are released while the thread waits for the next
            self._idle.release()


def _carry_out(future: Future[T], work: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 - the future's `result` raises it
        future.set_exception(error)
