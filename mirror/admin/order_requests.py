"""Orders as requests on the control socket: read, carried out, and answered record by record."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from aiohttp import ClientConnectionError, web

from mirror.admin.action_log import LoggedAction
from mirror.admin.command_source import CommandSource
from mirror.admin.incoming import PATIENCE, Incoming
from mirror.admin.json_lines import read_order, record_line
from mirror.admin.messages import Content, OrderError, Record, Refused
from mirror.admin.service import AdminService
from mirror.util.cooperative import cooperatively

_log = logging.getLogger(__name__)


class OrderRequests:
    """Answers the requests that carry an order, by the admin service."""

    def __init__(self, service: AdminService) -> None:
        self._service = service

    def __repr__(self) -> str:
        return f"<OrderRequests of {self._service!r}>"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer with the records of an order, as lines of JSON."""
        response = web.StreamResponse(headers={"Content-Type": "application/jsonl"})
        await response.prepare(request)
        # The order ends with its connection.
        with contextlib.suppress(ClientConnectionError):
            async with aclosing(self._records(Incoming(request.content))) as records:
                await _answer(request, response, records)
            await response.write_eof()
        return response

    async def _records(self, incoming: Incoming) -> AsyncGenerator[Record, None]:
        try:
            order = read_order(await incoming.order())
        except OrderError as error:
            yield Refused(str(error))
            return
        try:
            with LoggedAction(order) as action:
                records = self._service.carry_out(order, CommandSource(incoming.records()))
                async with aclosing(records):
                    async for record in records:
                        action.last = record
                        yield record
        except Exception:  # noqa: BLE001 - the last resort, and it is logged
            _log.exception("unexpected failure of an order: %s", order)
            yield Refused("the mirror failed; its log has the reason", "failed")


async def _answer(
    request: web.Request, response: web.StreamResponse, records: AsyncIterator[Record]
) -> None:
    """Write records; raises ClientConnectionError if the command has gone, or reads no content.

    Content is kept from eviction while it is read. A list has the time of its reader: it may be
    in a pager.
    """
    patience: float | None = None
    async for record in records:
        if isinstance(record, Content):
            patience = PATIENCE
        async for piece in cooperatively(record_line(record), 1):
            try:
                async with asyncio.timeout(patience):
                    await response.write(piece)
            except TimeoutError:
                _log.warning("an order ends: its command took no content for %g s", patience)
                if request.transport is not None:
                    request.transport.abort()
                raise ClientConnectionError from None
