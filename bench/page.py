"""The page of a large mirror: its first byte, the cost of an open one, and pulls beside it.

`python -m bench.page [BLOBS] [CLIENTS]` fills the catalogue of a mirror with a million blobs in
2,000 repositories, has 2,000 clients pull, and measures

- the time to the first byte of the pages and of the status, beside that of `/metrics`,
- the CPU that open pages take,
- the rate of warm pulls with ten open pages and without, by wrk, by turns.

The result is in bench/PAGE.md.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from mirror.app.daemon import Daemon, running
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.settings import load
from mirror.storage.entry import Entry
from tests.standin import Hub, Terms, make_image

_REPOSITORIES = 2000
_CHILDREN = 8
_ROUNDS = 30
_OPEN = 10  # pages
_SECONDS = 5.0
_RESULT = Path(__file__).parent / "PAGE.md"
_RATE = re.compile(r"Requests/sec:\s+([\d.]+)")


def _fill(daemon: Daemon, blobs: int) -> None:
    """Enter made-up images, of a manifest and eight blobs each."""
    catalog, number = daemon.store.catalog, 0
    while number < blobs:
        where = Repository("docker.io", f"library/app-{number // (_CHILDREN + 1) % _REPOSITORIES}")
        children = tuple(Digest(f"sha256:{number + n:064x}") for n in range(1, _CHILDREN + 1))
        for digest in children:
            catalog.add(digest, Entry(5_000_000, None, 0, 0))
        parent = Digest(f"sha256:{number:064x}")
        catalog.add(parent, Entry(2000, None, 0, 0))
        catalog.describe(parent, "application/vnd.oci.image.manifest.v1+json", children)
        for digest in (parent, *children):
            catalog.link(digest, where)
        number += _CHILDREN + 1


async def _clients(url: str, clients: int) -> None:
    """Have clients at different addresses of the loopback pull a manifest."""
    for number in range(clients):
        local = f"127.{1 + number // 250}.0.{1 + number % 250}"
        connector = aiohttp.TCPConnector(local_addr=(local, 0))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(f"{url}/v2/library/nginx/manifests/latest") as response,
        ):
            assert response.status == 200


async def _first_byte(session: aiohttp.ClientSession, url: str) -> float:
    """Return the median time to the first byte, in milliseconds."""
    took = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        async with session.get(url) as response:
            assert response.status == 200, url
            took.append(time.perf_counter() - begun)
            await response.read()
        await asyncio.sleep(0.6)  # metrics are rendered twice a second at most
    return statistics.median(took) * 1000


async def _cpu(during: Callable[[], Awaitable[object]]) -> float:
    """Return the share of a CPU that this process takes meanwhile, in percent."""
    begun, used = time.monotonic(), time.process_time()
    await during()
    return 100 * (time.process_time() - used) / (time.monotonic() - begun)


async def _wrk(url: str) -> float:
    """Return the warm manifests that a load gets in a second."""
    command = ("wrk", "-t1", "-c16", f"-d{_SECONDS:g}s", f"{url}/v2/library/nginx/manifests/latest")
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    found = _RATE.search(output.decode())
    assert found is not None, output
    return float(found[1])


class _Pages:
    """Pages that are open, in browsers that read their events."""

    def __init__(self, session: aiohttp.ClientSession, url: str, count: int) -> None:
        self._session, self._url, self._count = session, url, count

    async def __aenter__(self) -> None:
        self._tasks = [asyncio.create_task(self._read()) for _ in range(self._count)]
        await asyncio.sleep(2)

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(1)

    async def _read(self) -> None:
        async with self._session.get(f"{self._url}/events?span=day") as response:
            async for _ in response.content.iter_any():
                pass


async def _measure(blobs: int, clients: int) -> list[str]:
    image = make_image(1, [1000])
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mirror-page-"))
        hub = await stack.enter_async_context(Hub(Terms(auth="none")))
        hub.add(image, "library/nginx", "latest")
        given = {
            "listen": "127.0.0.1:0",
            "data_dir": folder,
            "max_size": "9TiB",
            "upstreams": {"docker.io": {"url": hub.url}},
            "limit_check": 0,
            "log_format": "text",
        }
        daemon = await stack.enter_async_context(running(load(given)))
        url = str(daemon.url).rstrip("/")
        await _clients(url, clients)
        _fill(daemon, blobs)
        timeout = aiohttp.ClientTimeout(total=None)
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        return [
            *await _first_bytes(session, url),
            "",
            *await _open_pages(session, url),
        ]


async def _first_bytes(session: aiohttp.ClientSession, url: str) -> list[str]:
    paths = (
        "/metrics",
        "/",
        "/?span=week",
        "/images",
        "/requests?outcome=any",
        "/api/v1/status",
    )
    times = {path: await _first_byte(session, url + path) for path in paths}
    rows = [
        f"| `{path}` | {took:.1f} | x{took / times['/metrics']:.2f} |"
        for path, took in times.items()
    ]
    return ["| Path | First byte, ms | To `/metrics` |", "|---|---|---|", *rows]


async def _open_pages(session: aiohttp.ClientSession, url: str) -> list[str]:
    idle = await _cpu(lambda: asyncio.sleep(_SECONDS))
    one = ten = 0.0
    async with _Pages(session, url, 1):
        one = await _cpu(lambda: asyncio.sleep(_SECONDS))
    async with _Pages(session, url, _OPEN):
        ten = await _cpu(lambda: asyncio.sleep(_SECONDS))
    rates: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(3):
        rates[False].append(await _wrk(url))
        async with _Pages(session, url, _OPEN):
            rates[True].append(await _wrk(url))
    alone, beside = (statistics.median(rates[each]) for each in (False, True))
    return [
        "| Open pages | CPU, % | Warm manifests a second |",
        "|---|---|---|",
        f"| none | {idle:.1f} | {alone:,.0f} |",
        f"| one | {one:.1f} | |",
        f"| {_OPEN} | {ten:.1f} (with the clients' own) | {beside:,.0f} (x{beside / alone:.3f}) |",
    ]


def main() -> None:
    """Measure, print the result, and write it."""
    blobs, clients = (int(each) for each in [*sys.argv[1:], "1000000", "2000"][:2])
    rows = asyncio.run(_measure(blobs, clients))
    head = f"The page with {blobs:,} blobs and {clients:,} clients (`python -m bench.page`)."
    text = "\n".join(["# The page", "", head, "", *rows, ""])
    _RESULT.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
