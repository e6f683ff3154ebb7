"""Signals that wait, while nothing is there to take them: before the event loop, and behind it."""

from __future__ import annotations

import signal

ENDING = (signal.SIGINT, signal.SIGTERM)
# One that is sent to a daemon by mistake, or for what this one does not do, must not end it.
_OTHERS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def hold() -> None:
    """Have signals that end the daemon wait, and others do nothing until they are taken."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    for number in _OTHERS:
        signal.signal(number, signal.SIG_IGN)


def let_go() -> None:
    """Have those that wait come, and those that follow."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
