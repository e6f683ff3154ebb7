"""Closing of parts: each is closed when the stack that it was entered in unwinds."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Protocol, TypeVar


class Closable(Protocol):
    """A part that has to be closed."""

    async def close(self) -> None:
        """Close it."""


P = TypeVar("P", bound=Closable)


def closed(stack: AsyncExitStack, part: P) -> P:
    """Close a part at the end of a stack; returns the part."""
    stack.push_async_callback(part.close)
    return part
