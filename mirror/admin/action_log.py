"""The log of actions: a line as an operator's order begins, and one with its result."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import Self

from mirror.admin.json_lines import record_line
from mirror.admin.messages import Look, Record, Work
from mirror.util.plain_text import plain

_log = logging.getLogger(__name__)

_SHOWN = 1000  # characters of an order, and of a result


class LoggedAction:
    """An order, logged while the context lasts; `last` is its latest record.

    `by` is the sender, with a login; "" is the mirror's own user, by the control socket. The order
    is the end of each line, and the result is JSON: no name in them can be taken for another part
    of a line.
    """

    def __init__(self, order: Work, by: str = "") -> None:
        self.last: Record | None = None
        self._order = plain(str(order), _SHOWN)
        self._by = plain(f"order of {by}" if by else "order", _SHOWN)
        self._level = logging.DEBUG if isinstance(order, Look) else logging.INFO
        self._begun = time.monotonic()

    def __repr__(self) -> str:
        return f"<LoggedAction: {self._order}>"

    def __enter__(self) -> Self:
        _log.log(self._level, "%s: %s", self._by, self._order)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        seconds = time.monotonic() - self._begun
        _log.log(
            self._level,
            "%s ended after %.3f s, %s: %s",
            self._by,
            seconds,
            self._end(kind),
            self._order,
        )

    def _end(self, kind: type[BaseException] | None) -> str:
        if kind is None:
            return "without an answer" if self.last is None else _written(self.last)
        if issubclass(kind, Exception):
            return f"failed by {kind.__name__}"
        return "broken off"


def _written(record: Record) -> str:
    """Return a record as one line of JSON, cut if it is long."""
    return plain(next(record_line(record)).decode(), _SHOWN)
