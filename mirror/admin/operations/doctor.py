"""`doctor`: checks the running mirror from within."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from mirror.admin.messages import DoctorOrder, Record, Status, StatusOrder
from mirror.admin.operations.parts import OperationParts, whole_of
from mirror.admin.operations.status import status


async def doctor(parts: OperationParts, _: DoctorOrder) -> AsyncGenerator[Record, None]:
    """Yield the findings. Raises Unavailable without a running mirror."""
    whole = await whole_of(parts, "an examination by the mirror itself")
    async for found in status(parts, StatusOrder()):
        if isinstance(found, Status):
            yield await whole.examine(found)
