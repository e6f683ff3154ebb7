"""A thread for cloud libraries, which block the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from mirror.upstream.auth.credentials import CredentialsUnavailable, FoundCredentials

_TIMEOUT = 15.0  # seconds; a stop of the daemon waits for this thread, too


async def on_worker_thread(
    read: Callable[[], Coroutine[Any, Any, FoundCredentials]], cloud: str
) -> FoundCredentials:
    """Run `read` on a thread with another event loop; raises CredentialsUnavailable.

    These libraries block while they are imported and read files: for a third of a second each
    (measured).
    """

    async def bounded() -> FoundCredentials:
        try:
            async with asyncio.timeout(_TIMEOUT):
                return await read()
        except TimeoutError:
            raise CredentialsUnavailable(f"{cloud} does not answer") from None

    return await asyncio.to_thread(lambda: asyncio.run(bounded()))
