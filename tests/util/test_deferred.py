"""A deferred part is made once, on a thread, by its first use."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mirror.util.deferred import Deferred


async def test_a_part_is_made_once_on_a_thread_for_all_who_wait() -> None:
    made: list[threading.Thread] = []

    def make() -> str:
        made.append(threading.current_thread())
        return "the part"

    part = Deferred(make)
    assert part.made is None
    assert {*await asyncio.gather(part.get(), part.get())} == {"the part"}
    assert part.made == await part.get() == "the part"
    assert len(made) == 1
    assert made[0] is not threading.main_thread()


async def test_a_part_that_cannot_be_made_is_made_by_the_next_use() -> None:
    failures = [ImportError("no module of this name")]

    def make() -> str:
        if failures:
            raise failures.pop()
        return "the part"

    part = Deferred(make)
    with pytest.raises(ImportError):
        await part.get()
    assert await part.get() == "the part"


async def test_a_stop_waits_for_no_part_that_is_being_made() -> None:
    begun, go = threading.Event(), threading.Event()

    def make() -> str:
        begun.set()
        go.wait(30)
        return "the part"

    part = Deferred(make)
    waiting = asyncio.create_task(part.get())
    try:
        await asyncio.to_thread(begun.wait, 30)
        await part.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    finally:
        go.set()


async def test_a_part_is_made_though_all_threads_of_the_loop_are_taken() -> None:
    loop, go = asyncio.get_running_loop(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        loop.set_default_executor(pool)
        waits = loop.run_in_executor(None, go.wait, 30)
        try:
            assert await Deferred(lambda: "the part").get() == "the part"
        finally:
            go.set()
            await waits


async def test_callers_of_any_moment_get_the_same_part() -> None:
    """A caller may come in the very turns of the loop in which the part gets there."""
    made: list[object] = []

    def make() -> object:
        made.append(object())
        return made[-1]

    for number in range(1, 201):
        part = Deferred(make)
        callers = [asyncio.create_task(part.get())]
        async with asyncio.timeout(30):
            while not callers[0].done():
                callers.append(asyncio.create_task(part.get()))
                await asyncio.sleep(0)
        assert {*await asyncio.gather(*callers)} == {made[-1]}
        assert len(made) == number
