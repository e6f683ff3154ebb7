"""Notifications for systemd: sd_notify(3), one datagram each."""

from __future__ import annotations

import logging
import os
import socket

_log = logging.getLogger(__name__)


def notify(state: str) -> None:
    """Send `READY=1`, `STOPPING=1` or `WATCHDOG=1`; nothing if systemd did not start the mirror."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # an abstract socket
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        try:
            channel.sendto(state.encode(), address)
        except OSError as error:  # systemd's socket is gone: pulls do not need it
            _log.warning("cannot tell systemd %s: %s", state, error.strerror)


def watchdog_interval() -> float | None:
    """Return the seconds between two notifications for systemd's watchdog: half of its limit."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 2e6 if microseconds.isdecimal() else None
