"""Single flight: one run for all callers, and a caller that leaves harms no other."""

from __future__ import annotations

import asyncio

import pytest

from mirror.util.singleflight import SingleFlight


async def test_all_callers_at_once_get_one_run() -> None:
    runs, go = 0, asyncio.Event()

    async def work() -> int:
        nonlocal runs
        runs += 1
        await go.wait()
        return runs

    flights: SingleFlight[str, int] = SingleFlight()
    waiting = [asyncio.create_task(flights.join("a", work)) for _ in range(5)]
    await asyncio.sleep(0)
    assert len(flights) == 1
    waiting[0].cancel()
    go.set()
    got = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(got[0], asyncio.CancelledError)
    assert got[1:] == [1, 1, 1, 1]
    assert len(flights) == 0


async def test_a_failure_reaches_all_callers_and_the_next_one_tries_anew() -> None:
    async def fail() -> int:
        raise ValueError("no")

    async def work() -> int:
        return 7

    flights: SingleFlight[str, int] = SingleFlight()
    got = await asyncio.gather(*(flights.join("a", fail) for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in got] == [ValueError] * 3
    assert await flights.join("a", work) == 7


async def test_closing_ends_what_runs() -> None:
    flights: SingleFlight[str, bool] = SingleFlight()
    waiting = asyncio.create_task(flights.join("a", asyncio.Event().wait))
    await asyncio.sleep(0)
    await flights.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert len(flights) == 0
