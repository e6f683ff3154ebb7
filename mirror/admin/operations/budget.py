"""`budget`: reports the pull limits."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from mirror.admin.messages import BudgetOrder, Record
from mirror.admin.operations.parts import OperationParts
from mirror.budget.report import report


async def budget(parts: OperationParts, _: BudgetOrder) -> AsyncGenerator[Record, None]:
    """Yield the report."""
    parts.demand.tick()
    yield await report(parts.budget, parts.demand)
