"""Orders of the page and the API, carried out by the service that the commands use."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing, nullcontext
from http import HTTPStatus
from typing import TypeVar

from mirror.admin.action_log import LoggedAction
from mirror.admin.import_source import ImportSource
from mirror.admin.messages import (
    DuOrder,
    ExportOrder,
    Imported,
    ImportOrder,
    LsOrder,
    Pinned,
    PurgeOrder,
    Record,
    Refreshed,
    Refused,
    ShowOrder,
    Unusable,
    Work,
)
from mirror.admin.service import AdminService
from mirror.console.discretion import PUBLIC, discreet
from mirror.console.problem import Problem, busy
from mirror.console.transfers import Transfers
from mirror.console.viewers import Viewer
from mirror.util.singleflight import SingleFlight

# Orders that look at all that is stored: each takes a thread for as long as a second.
_WALKS = (DuOrder, LsOrder, PurgeOrder, ShowOrder)
_AT_ONCE = 2
_WAITING = 32  # different walks; further ones are refused
_AGAIN = 5  # seconds
_SOME = 3  # images that a problem names
_STATUSES = {
    "refused": HTTPStatus.CONFLICT,
    "invalid": HTTPStatus.BAD_REQUEST,
    "unknown": HTTPStatus.NOT_FOUND,
    "unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
    "failed": HTTPStatus.INTERNAL_SERVER_ERROR,
}

R = TypeVar("R")


class Orders:
    """Carries out orders. Equal questions at the same time are one question.

    `actions` counts the orders of operators, by kind.
    """

    def __init__(self, service: AdminService) -> None:
        self._service = service
        self._questions: SingleFlight[Work, Record] = SingleFlight()
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0
        self._stopping = False
        self.transfers = Transfers()
        self.actions: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Orders: {len(self._questions)} questions, {self._waiting} waiting>"

    def stop(self) -> None:
        """Begin no further action, and end the transfers: they would be cut by the stop."""
        self._stopping = True
        self.transfers.stop()

    async def close(self) -> None:
        """Stop the running questions."""
        await self._questions.close()

    async def ask(self, order: Work, kind: type[R]) -> R:
        """Return the result of an order that changes nothing; raises Problem."""
        return _result(await self._questions.join(order, lambda: self._answer(order)), kind)

    async def see(self, order: Work, viewer: Viewer, kind: type[R]) -> R:
        """Return as much of the result of such an order as a viewer may see; raises Problem."""
        if viewer.sees_names:
            return await self.ask(order, kind)
        if kind not in PUBLIC:
            viewer.need_names()
        found: R = discreet(await self.ask(order, kind))
        return found

    async def act(
        self, order: Work, viewer: Viewer, kind: type[R], source: ImportSource | None = None
    ) -> R:
        """Carry out an operator's order to its end, logged; raises Problem."""
        last: Record | None = None
        async with aclosing(self.records(order, viewer, source)) as records:
            async for record in records:
                last = record
        return _result(last, kind)

    async def records(
        self, order: Work, viewer: Viewer, source: ImportSource | None = None
    ) -> AsyncGenerator[Record, None]:
        """Carry out an operator's order, logged; yields its records. Raises Problem."""
        viewer.need_act(f"mirror {order}")
        if self._stopping:
            raise busy("the mirror is stopping: no action begins any more", _AGAIN)
        moves = isinstance(order, ExportOrder | ImportOrder)
        with self.transfers.counted(order.kind) if moves else nullcontext():
            if not getattr(order, "dry", False):
                self.actions[order.kind] += 1
            with LoggedAction(order, f"{viewer.name} at {viewer.address}") as action:
                async with aclosing(self._service.carry_out(order, source)) as records:
                    async for record in records:
                        action.last = record
                        yield record

    async def _answer(self, order: Work) -> Record:
        if not isinstance(order, _WALKS):
            return await self._last(order)
        if self._waiting >= _WAITING:
            raise busy("too many questions are being answered", _AGAIN)
        self._waiting += 1
        try:
            async with self._turns:
                return await self._last(order)
        finally:
            self._waiting -= 1

    async def _last(self, order: Work) -> Record:
        last: Record = Refused("the mirror gave no answer", "failed")
        async with aclosing(self._service.carry_out(order)) as records:
            async for record in records:
                last = record
        return last


def _check_only(result: Pinned | Refreshed) -> None:
    """Refuse the result of an order for one image that was refused; raises Problem."""
    if len(result.images) == 1 and (reason := result.images[0].refused) is not None:
        raise as_problem(Refused(reason, result.images[0].why or "refused"))


def _check_any(result: Imported) -> None:
    """Refuse the result of an import that took nothing in; raises Problem."""
    if all(each.reason for each in result.images):
        reasons = (f"{each.name} is not imported: {each.reason}" for each in result.images[:_SOME])
        raise Problem(HTTPStatus.CONFLICT, "; ".join(reasons))


def as_problem(refused: Refused) -> Problem:
    """Return the problem of a refused order."""
    headers = {"Retry-After": str(_AGAIN)} if refused.why == "unavailable" else {}
    return Problem(_STATUSES[refused.why], refused.reason, headers)


def _result(record: Record | None, kind: type[R]) -> R:
    if isinstance(record, kind):
        if isinstance(record, Pinned | Refreshed):
            _check_only(record)
        if isinstance(record, Imported):
            _check_any(record)
        return record
    if isinstance(record, Refused):
        raise as_problem(record)
    if isinstance(record, Unusable):
        raise Problem(HTTPStatus.CONFLICT, record.reason)
    raise TypeError(f"unexpected record: {type(record).__name__}")
