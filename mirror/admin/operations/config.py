"""`config`: shows the configuration of the running mirror."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from mirror.admin.messages import ConfigOrder, Record
from mirror.admin.operations.parts import OperationParts, whole_of


async def config(parts: OperationParts, _: ConfigOrder) -> AsyncGenerator[Record, None]:
    """Yield the configuration in force. Raises Unavailable without a running mirror."""
    whole = await whole_of(parts, "the configuration in force")
    yield await whole.configuration()
