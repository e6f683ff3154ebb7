"""Content that two upstreams share: the cost of a proof of possession, and of fetching it again.

`python -m bench.sharing [MBIT]` pulls blobs through a mirror from one upstream, then the same blobs
from another, over a line of so many Mbit/s to each (100 if left out). It does so twice: while the
other upstream serves ranges, so that it proves possession by one, and while it refuses them, so
that the whole blob is the proof. The second is what fetching once per upstream would cost always.
The result is in docs/architecture.md, "Proof of possession".
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from mirror.app.daemon import running
from mirror.settings import load
from tests.standin import Fault, Hub, Image, Terms, make_image

_MBIT = 1e6 / 8  # bytes per second
_NAME = "org/app"
# Compressed layers in MB, which an application in another registry shares with its base image.
BASES = {"python:3.12": [48.5, 24.0, 64.4, 211.3, 6.2, 25.6], "alpine:3.20": [3.6]}


async def _pull(session: aiohttp.ClientSession, url: str, image: Image) -> float:
    """Pull all layers, three at a time as engines do; returns the seconds."""
    places, begun = asyncio.Semaphore(3), time.monotonic()

    async def layer(digest: str) -> None:
        async with places, session.get(f"{url}/blobs/{digest}") as response:
            response.raise_for_status()
            async for _ in response.content.iter_chunked(1 << 20):
                pass

    await asyncio.gather(*(layer(each.digest) for each in image.layers))
    return time.monotonic() - begun


def _sent(hub: Hub) -> int:
    return sum(seen.bytes_sent for seen in hub.journal.matching(kind="blob", method="GET"))


async def _measure(sizes: list[int], rate: float, *, ranges: bool) -> str:
    """Pull from the first upstream, then from the other; returns a row about the other."""
    image = make_image(1, sizes)
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mirror-sharing-"))
        plain = Terms(auth="none", redirect=False)
        one, other = [await stack.enter_async_context(Hub(plain, rate=rate)) for _ in range(2)]
        for hub in (one, other):
            hub.add(image, _NAME, "latest")
        if not ranges:
            other.faults.add(
                Fault(kind="blob", status=400, match=lambda seen: bool(seen.range), times=None)
            )
        upstreams = {"one.example": {"url": one.url}, "other.example": {"url": other.url}}
        given = {"listen": "127.0.0.1:0", "data_dir": Path(folder), "upstreams": upstreams}
        daemon = await stack.enter_async_context(running(load(given)))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        first = await _pull(session, f"{daemon.url}/v2/one.example/{_NAME}", image)
        while len(daemon.fetches):  # noqa: ASYNC110 - it is not measured
            await asyncio.sleep(0.1)
        second = await _pull(session, f"{daemon.url}/v2/other.example/{_NAME}", image)
        bytes_ = _sent(other)
    how = "range" if ranges else "whole"
    return f"{how:5}  {first:7.2f} s first  {second:7.2f} s then  {bytes_ / 1e6:8.2f} MB again"


async def _main(rate: float) -> None:
    for name, megabytes in BASES.items():
        sizes = [int(each * 1e6) for each in megabytes]
        print(f"{name}: {len(sizes)} shared layers, {sum(sizes) / 1e6:.1f} MB")
        for ranges in (True, False):
            print(" ", await _measure(sizes, rate, ranges=ranges))


if __name__ == "__main__":
    asyncio.run(_main(float(sys.argv[1] if len(sys.argv) > 1 else 100) * _MBIT))
