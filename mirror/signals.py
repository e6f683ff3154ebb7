"""SIGINT and SIGTERM: the first asks for the end, those behind it for one without grace."""

from __future__ import annotations

import asyncio
import logging
import signal

from mirror import held

_log = logging.getLogger(__name__)


class Signals:
    """What was asked for by signals, from the moment that it is made, by the task that starts.

    The first one cancels that task, unless it has `started`: then it sets `stop`.
    """

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self._starting = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in held.ENDING:
            loop.add_signal_handler(number, self._came, signal.Signals(number).name)
        held.let_go()

    def __repr__(self) -> str:
        return f"<Signals: stop {self.stop.is_set()}, hurry {self.hurry.is_set()}>"

    def started(self) -> None:
        """Have nothing cancelled from now on."""
        self._starting = None

    def _came(self, name: str) -> None:
        if not self.stop.is_set():
            self.stop.set()
            if self._starting is not None:
                _log.info("%s: the start ends", name)
                self._starting.cancel()
        elif not self.hurry.is_set():
            _log.info("one more %s: transfers are cut", name)
            self.hurry.set()
