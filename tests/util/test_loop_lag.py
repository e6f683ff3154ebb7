"""The loop's lag is measured, and the code that blocked the loop is named."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mirror.util.loop_lag import LoopLag
from tests.support.mirror import Mirror


def hold(seconds: float) -> None:
    """Block the loop as a disk would: no other task runs meanwhile."""
    time.sleep(seconds)


async def beaten(meter: LoopLag) -> None:
    """Wait until a beat has come."""
    before = sum(meter.counts)
    async with asyncio.timeout(10):
        while sum(meter.counts) == before:
            await turn()


async def turn() -> None:
    """Let the loop turn once."""
    await asyncio.sleep(0)


async def test_what_holds_the_loop_is_measured_and_named(caplog: pytest.LogCaptureFixture) -> None:
    with LoopLag() as meter:
        await beaten(meter)
        hold(0.5)
        assert meter.worst > 0.4
        await beaten(meter)
    assert meter.most > 0.4
    [line] = [each.getMessage() for each in caplog.records if each.name == "mirror.util.loop_lag"]
    assert "the event loop was held for 0." in line
    assert "by hold (util/test_loop_lag.py:" in line
    assert "test_what_holds_the_loop_is_measured_and_named" in line


async def test_what_runs_on_a_thread_is_no_lag() -> None:
    with LoopLag() as meter:
        await asyncio.to_thread(hashlib.sha256, bytes(64 * 1024**2))
        await beaten(meter)
        assert meter.look() < 0.05


async def test_a_look_begins_anew() -> None:
    with LoopLag() as meter:
        hold(0.3)
        assert meter.look() > 0.2
        assert meter.worst < 0.05
        assert meter.most > 0.2


STARVED = """
import asyncio, os, sys, time
from mirror.util.loop_lag import LoopLag

async def main():
    os.nice(10)  # a tenth of the CPU: with less, the program took a minute to end
    with LoopLag() as meter:
        await asyncio.sleep(0.1)
        meter.look()
        began, ran = time.monotonic(), time.thread_time()
        while time.thread_time() - ran < 0.02:
            pass
        print(time.monotonic() - began, meter.worst)

asyncio.run(main())
"""


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="the kernel does not tell")
async def test_the_wait_for_a_cpu_is_no_lag() -> None:
    """The loop shares one CPU with a program that the kernel prefers."""
    cpu = {min(os.sched_getaffinity(0))}
    busy = await asyncio.create_subprocess_exec(sys.executable, "-c", "while True: pass")
    try:
        os.sched_setaffinity(busy.pid, cpu)
        starved = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            STARVED,
            stdout=subprocess.PIPE,
            preexec_fn=lambda: os.sched_setaffinity(0, cpu),
        )
        async with asyncio.timeout(60):
            told, _ = await starved.communicate()
    finally:
        busy.kill()
        await busy.wait()
    took, measured = map(float, told.split())
    assert measured < 0.1
    assert took > 2 * measured


async def test_the_lag_is_among_the_metrics(mirror: Mirror) -> None:
    before = sum(mirror.daemon.lag.counts)
    await beaten(mirror.daemon.lag)
    told = (await mirror.ask("/metrics")).body.decode().splitlines()
    [beats] = [line for line in told if line.startswith("mirror_loop_lag_seconds_count ")]
    assert float(beats.split()[1]) > before
    assert any(line.startswith("mirror_loop_lag_most_seconds ") for line in told)
