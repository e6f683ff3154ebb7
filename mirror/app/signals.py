"""Signals: SIGHUP requests a reload, SIGINT and SIGTERM the end.

The first SIGINT or SIGTERM requests an orderly end, later ones an end without grace.
"""

from __future__ import annotations

import asyncio
import logging
import signal

from mirror.app import deferred_signals

_log = logging.getLogger(__name__)


class Signals:
    """The requests made by signals since this object was made, by the task that starts the daemon.

    The first request for the end sets `stop`, and cancels that task unless it has `started`.
    """

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self.reload = asyncio.Event()
        self._starting = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in deferred_signals.ENDING:
            loop.add_signal_handler(number, self._came, signal.Signals(number).name)
        loop.add_signal_handler(deferred_signals.RELOADING, self._reload)
        deferred_signals.deliver()

    def __repr__(self) -> str:
        asked = f"reload {self.reload.is_set()}, stop {self.stop.is_set()}"
        return f"<Signals: {asked}, hurry {self.hurry.is_set()}>"

    def started(self) -> None:
        """Cancel nothing from now on."""
        self._starting = None

    def _reload(self) -> None:
        if self.stop.is_set():
            _log.warning("SIGHUP: the mirror is stopping: nothing is reloaded")
            return
        if self._starting is not None:
            _log.info("SIGHUP: the configuration is read again when the mirror has started")
        self.reload.set()

    def _came(self, name: str) -> None:
        if not self.stop.is_set():
            self.stop.set()
            if self._starting is not None:
                _log.info("%s: the start ends", name)
                self._starting.cancel()
        elif not self.hurry.is_set():
            _log.info("one more %s: transfers are cut", name)
            self.hurry.set()
