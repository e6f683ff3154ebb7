"""Free ports of the loopback, for programs that are told theirs."""

from __future__ import annotations

import random
import socket

_PORTS = range(20_000, 30_000)  # below the ports that the kernel gives to outgoing connections


def free_port() -> int:
    """Return a free loopback port that the kernel gives to no outgoing connection.

    The choice is random: the program of another process may be between two lives.
    """
    for number in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", number))
            except OSError:
                continue
            return number
    raise RuntimeError("no free port")
