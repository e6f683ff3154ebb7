"""Background jobs: one that fails is named in the log at once, and does not disturb the stop."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from mirror.app import background
from tests.support.waiting import until


async def broken() -> None:
    """Fail at once."""
    raise ValueError("no such thing")


async def test_a_failed_job_is_logged_at_once_and_the_stop_works(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended = asyncio.Event()

    async def lasting() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with AsyncExitStack() as stack:
        background.run(stack, lasting(), broken())
        await until(lambda: "broken has failed" in caplog.text)
        assert "no such thing" in caplog.text
        assert not ended.is_set()
    assert ended.is_set()
    assert caplog.text.count("has failed") == 1
