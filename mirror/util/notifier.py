"""A notifier: wakes all tasks that wait for a change."""

from __future__ import annotations

import asyncio


class Notifier:
    """Tasks wait for `changed`, and look again at the state; `notify` follows each change of it.

    No change is missed if nothing is awaited between a look and the wait. For one event loop only.
    """

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], None] = {}

    def __repr__(self) -> str:
        return f"<Notifier: {len(self._waiting)} waiting>"

    async def changed(self) -> None:
        """Wait for the next notification."""
        future = asyncio.get_running_loop().create_future()
        self._waiting[future] = None
        try:
            await future
        finally:
            self._waiting.pop(future, None)

    def notify(self) -> None:
        """Wake all waiting tasks, in the order in which they came."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()
