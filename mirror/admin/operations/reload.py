"""`reload`: has the running mirror read its configuration again."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from mirror.admin.messages import Record, ReloadOrder
from mirror.admin.operations.parts import OperationParts, whole_of


async def reload(parts: OperationParts, _: ReloadOrder) -> AsyncGenerator[Record, None]:
    """Yield the result. Raises Unavailable without a running mirror."""
    whole = await whole_of(parts, "a reload")
    yield await whole.reload()
