"""Benchmarks can rely on a separate process, and on a line of an exact rate."""

import asyncio
import json
import sys
import time
from pathlib import Path

import aiohttp
import pytest

from . import Hub, Terms, make_image
from .client import AGENT, Client

NGINX = "library/nginx"


async def test_the_line_is_shared_and_exact(tmp_path: Path) -> None:
    images = [make_image(seed, [2_000_000], folder=tmp_path) for seed in (1, 2)]
    async with Hub(Terms(auth="none"), rate=8_000_000) as hub, Client(hub) as client:
        for image in images:
            hub.add(image, NGINX)
        begun = time.monotonic()
        urls = [hub.cdn.sign(image.layers[0]) for image in images]
        replies = await asyncio.gather(*(client.ask("GET", url) for url in urls))
        took = time.monotonic() - begun
    rate = sum(len(reply.body) for reply in replies) / took
    assert 7_000_000 < rate < 8_080_000  # a busy machine makes it slower, and nothing faster


async def test_it_runs_as_a_process_of_its_own() -> None:
    options = ["--limit", "9", "--images", "library/nginx:1=64K,10", "--big-mib", "1"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.standin", *options, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout
    described = json.loads(await process.stdout.readline())
    small, big = described["images"]
    assert (small["repository"], small["tag"], len(small["blobs"])) == (NGINX, "1", 3)
    assert big["blobs"][-1]["size"] == pytest.approx(1024**2, rel=0.01)
    async with (
        aiohttp.ClientSession(headers={"User-Agent": AGENT}) as session,
        session.get(described["url"] + "/_standin/stats") as response,
    ):
        assert (await response.json())["pulls"] == 0
    process.terminate()
    assert await process.wait() == 0
