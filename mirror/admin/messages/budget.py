"""`budget`: the order; its result is a record of `budget.summary`."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass as checked

from mirror.admin.messages.common import STRICT


@checked(frozen=True, config=STRICT)
class BudgetOrder:
    """Report the pull limits: their remainder, spenders and forecast."""

    kind: Literal["budget"] = "budget"

    def __str__(self) -> str:
        """Return the order as the operator types it."""
        return self.kind
