"""The format of log lines, except for the access log, and their way to standard error."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from typing import Literal

from mirror.util.log_writer import STANDARD_ERROR, LogWriter
from mirror.util.request_id import REQUEST
from mirror.util.trace import TRACE

Format = Literal["text", "json"]


def standard_error(form: Format) -> LogWriter:
    """Return the log writer for standard error, or for the null device if standard error is closed.

    The number of a closed standard error may be another file's by now.
    """
    closed = sys.stderr is None
    descriptor = os.open(os.devnull, os.O_WRONLY) if closed else STANDARD_ERROR
    formatter = _formatter(form)

    def notice(lines: int) -> str:
        words = f"{lines} lines are missing here: the log was not read in time"
        record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, words, None, None)
        return formatter.format(record) + "\n"

    return LogWriter(descriptor, notice)


def set_up(form: Format, level: str, log_writer: LogWriter) -> None:
    """Write the mirror's log to a log writer, from a level on.

    Other loggers only warn, at any level: libraries write whole responses to their debug log,
    passwords included.
    """
    handler = _Handler(log_writer)
    handler.setFormatter(_formatter(form))
    logging.basicConfig(handlers=[handler], force=True)
    set_level(level)


def set_level(level: str) -> None:
    """Write the mirror's log from a level on."""
    least = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger().setLevel(max(least, logging.WARNING))
    logging.getLogger("mirror").setLevel(least)


class _Handler(logging.Handler):
    """Passes records to the log writer, each at once."""

    def __init__(self, log_writer: LogWriter) -> None:
        self._log_writer = log_writer
        super().__init__()

    def createLock(self) -> None:  # noqa: N802 - logging's own
        """Share the log writer's lock: two, taken in either order, would be a deadlock."""
        self.lock = self._log_writer.lock

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on one record."""
        try:
            self._log_writer.add(self.format(record) + "\n", urgent=True)
        except Exception:  # noqa: BLE001 - as logging's own: no line is worth a failure
            self.handleError(record)


def _formatter(form: Format) -> logging.Formatter:
    return _Json() if form == "json" else _Text()


class _Text(logging.Formatter):
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        self.converter = time.gmtime
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own
        """Write the line, with the id and the trace of the request that it is about."""
        line, request, traced = super().formatMessage(record), REQUEST.get(), TRACE.get()
        line = f"{line} request={request}" if request else line
        return f"{line} traceparent={traced}" if traced else line


class _Json(_Text):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request := REQUEST.get():
            line["request"] = request
        if traced := TRACE.get():
            line["traceparent"] = traced
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)
