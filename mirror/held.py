"""Signals that nothing can take: before the event loop they wait, behind it they are lost."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # to load it would take as long as what signals wait for
    import asyncio

ENDING = (signal.SIGINT, signal.SIGTERM)
RELOADING = signal.SIGHUP
_TAKEN = (*ENDING, RELOADING)
# One that is sent to a daemon by mistake, or for what this one does not do, must not end it.
_OTHERS = (signal.SIGUSR1, signal.SIGUSR2)


def hold() -> None:
    """Have signals that mean something to the daemon wait, and others do nothing."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _TAKEN)
    for number in _OTHERS:
        signal.signal(number, signal.SIG_IGN)


def let_go() -> None:
    """Have those that wait come, and those that follow."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _TAKEN)


def give_up(loop: asyncio.AbstractEventLoop) -> None:
    """Have signals change nothing any more, not the exit code either: all is done.

    To hold them would not do: threads of our own may be left that do not, and a loop that is closed
    gives them back to the system, which ends the process.
    """
    hold()
    for number in (*_TAKEN, *_OTHERS):
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)
