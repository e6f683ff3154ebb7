"""Deferred signals: blocked until the event loop handles them, ignored after it has ended."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # loading asyncio would take as long as the code that defers signals
    import asyncio

ENDING = (signal.SIGINT, signal.SIGTERM)
RELOADING = signal.SIGHUP
_TAKEN = (*ENDING, RELOADING)
# Sent by mistake, or for features of other daemons, they must not end this one.
_OTHERS = (signal.SIGUSR1, signal.SIGUSR2)


def defer() -> None:
    """Block the signals that the daemon handles, and ignore others."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _TAKEN)
    for number in _OTHERS:
        signal.signal(number, signal.SIG_IGN)


def deliver() -> None:
    """Unblock signals: pending ones arrive now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _TAKEN)


def ignore(loop: asyncio.AbstractEventLoop) -> None:
    """Ignore signals from now on: the work is done, and the exit code stays.

    Blocking is not enough: other threads may be left that do not block, and a closed loop restores
    the system's handling, which ends the process.
    """
    defer()
    for number in (*_TAKEN, *_OTHERS):
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)
