"""Load: many requests from wrk, many bytes from a few sockets."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bench.client import Connection, Refused
from bench.engine import ACCEPT
from bench.processes import Failed

CONNECTIONS = 32
_WRK_SLACK = 30.0  # seconds beyond its own duration
_REQUESTS = re.compile(r"(\d+) requests in ([\d.]+)s")
_TAIL = re.compile(r"99%\s+([\d.]+)(us|ms|s)\b")
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_BAD = re.compile(r"Socket errors:.*|Non-2xx or 3xx responses:.*")


@dataclass(frozen=True, slots=True)
class Requests:
    """What wrk saw; `p99` in milliseconds."""

    count: int
    rate: float
    p99: float


@dataclass(frozen=True, slots=True)
class Stream:
    """Bytes that came, in how many seconds, and what it cost us in CPU seconds."""

    size: int
    seconds: float
    cpu: float


def requests(url: str, seconds: int) -> Requests:
    """Ask for `url` from one thread over 32 connections; raises Failed on any bad answer."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency"]
    done = subprocess.run(
        [*command, "-H", f"Accept: {ACCEPT}", url],
        capture_output=True,
        text=True,
        timeout=seconds + _WRK_SLACK,
        check=False,
    )
    count, tail = _REQUESTS.search(done.stdout), _TAIL.search(done.stdout)
    if bad := _BAD.search(done.stdout):
        raise Failed(f"wrk {url}: {bad[0]}")
    if done.returncode or not count or not tail:
        raise Failed(f"wrk {url} failed: {done.stdout}{done.stderr}")
    p99 = float(tail[1]) * _UNITS[tail[2]]
    return Requests(int(count[1]), int(count[1]) / float(count[2]), p99)


def stream(url: str, path: str, connections: int, times: int = 1) -> Stream:
    """GET `path` so many times on each of so many connections, all begun together."""
    gate = threading.Barrier(connections + 1, timeout=60)

    def one() -> int:
        with Connection(url) as connection:
            gate.wait()
            return sum(_get(connection, path) for _ in range(times))

    with ThreadPoolExecutor(connections) as pool:
        running = [pool.submit(one) for _ in range(connections)]
        gate.wait()
        began, cpu = time.perf_counter(), time.process_time()
        size = sum(each.result() for each in running)
        return Stream(size, time.perf_counter() - began, time.process_time() - cpu)


def _get(connection: Connection, path: str) -> int:
    reply = connection.ask("GET", path, {"Accept": ACCEPT})
    if reply.status != 200:
        raise Refused(f"{path}: status {reply.status}")
    return connection.drain(reply).size
