"""The running mirror as a whole, for the rare orders that need it: made by the first of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from mirror.app.reload import Reloader
from mirror.settings import Loaded
from mirror.util.deferred import Deferred

if TYPE_CHECKING:
    from mirror.app.whole import WholeMirror


def defer_whole(
    stack: AsyncExitStack, reloader: Reloader, read: Callable[[], Loaded]
) -> Deferred[WholeMirror]:
    """Return the whole mirror, not made yet; it is closed at the end of the stack if it was."""

    def make() -> WholeMirror:
        from mirror.app.whole import WholeMirror

        return WholeMirror(reloader, read)

    async def close() -> None:
        await deferred.close()
        if deferred.made is not None:
            await deferred.made.close()

    deferred = Deferred(make)
    stack.push_async_callback(close)
    return deferred
