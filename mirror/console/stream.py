"""A stream of records: each on a line of JSON, as soon as it is there."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import ClassVar

from mirror.admin.json_lines import record_line
from mirror.admin.messages import Record
from mirror.console.reply import NO_STORE, head_lines
from mirror.util.cooperative import cooperatively
from mirror.web.reply import Reply
from mirror.web.sending import ClientStream


@dataclass(frozen=True, slots=True)
class RecordStream:
    """The answer to a long order: it ends with its connection, as on the control socket."""

    records: AsyncGenerator[Record, None]
    media_type: ClassVar[str] = "application/jsonl"

    def reply(self) -> Reply:
        """Return the reply to send."""
        head = head_lines(self.media_type, NO_STORE, {"X-Accel-Buffering": "no"})
        return Reply(200, head, length=None, body=_Body(self.records), last=True)


class _Body:
    """The body of a stream of records."""

    def __init__(self, records: AsyncGenerator[Record, None]) -> None:
        self._records = records

    async def send(self, client: ClientStream) -> None:
        """Send the records; raises ConnectionError if the client leaves, which ends the order."""
        async with aclosing(self._records) as records:
            async for record in records:
                async for piece in cooperatively(record_line(record), 1):
                    await client.data(piece)

    def close(self) -> None:
        """Let go of it."""
