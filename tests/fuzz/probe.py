"""The probe: how long one task blocks a daemon's loop, as seen from another process.

A stall is the latency of `/healthz` on one kept connection, less the time that the daemon's loop
or this process waited for a CPU, and no more than the CPU time that the daemon used meanwhile: a
machine that is busy with other processes does not look like a stall.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

EVERY = 0.02  # s
SILENT_AFTER = 60.0  # s
_QUESTION = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
_NANO = 1e9


class Probe:
    """Asks repeatedly in `run`. `worst` is the longest stall since it was set to 0, in seconds."""

    def __init__(self, address: tuple[str, int], pid: int) -> None:
        self._address = address
        self._pid = pid
        self._end: socket.socket | None = None
        self.worst = 0.0
        self.latency = 0.0

    def run(self) -> None:
        """Ask for ever."""
        while True:
            with suppress(OSError):  # the daemon ends, or has ended
                self._look()
            time.sleep(EVERY)

    def _look(self) -> None:
        cpu, waits = self._cpu(), self._waits()
        began = time.monotonic()
        answered = self._ask()
        latency = time.monotonic() - began
        if not answered:
            return
        waited = sum(self._waits()) - sum(waits)
        self.latency = max(self.latency, latency)
        self.worst = max(self.worst, min(latency - waited, self._cpu() - cpu))

    def _ask(self) -> bool:
        """Ask once; False if the connection was closed."""
        try:
            if self._end is None:
                self._end = socket.create_connection(self._address, SILENT_AFTER)
            self._end.sendall(_QUESTION)
            if self._end.recv(4096):
                return True
        except TimeoutError:
            return True
        except OSError:
            pass
        if self._end is not None:
            self._end.close()
            self._end = None
        return False

    def _cpu(self) -> float:
        """Return the CPU seconds of all of the daemon's threads."""
        used = 0
        for task in Path(f"/proc/{self._pid}/task").iterdir():
            with suppress(OSError):
                used += int((task / "schedstat").read_text().split()[0])
        return used / _NANO

    def _waits(self) -> tuple[float, float]:
        """Return the seconds that the daemon's loop, and this process, have waited for a CPU."""
        loop = Path(f"/proc/{self._pid}/task/{self._pid}/schedstat").read_text()
        own = Path("/proc/thread-self/schedstat").read_text()
        return int(loop.split()[1]) / _NANO, int(own.split()[1]) / _NANO


def main(host: str, port: str, pid: str) -> None:
    """Probe; answer each input line with the worst figures since the line before it."""
    probe = Probe((host, int(port)), int(pid))
    threading.Thread(target=probe.run, daemon=True).start()
    for _ in sys.stdin:
        said = {"stall": probe.worst, "latency": probe.latency}
        probe.worst = probe.latency = 0.0
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
