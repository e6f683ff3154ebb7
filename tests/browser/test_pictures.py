"""The pictures of the page in the documentation: of a mirror with a past, and with little left."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirror.statistics.history import MINUTE, History
from mirror.storage.metadata.rows import Figures
from mirror.storage.metadata.sqlite.store import open_sqlite
from tests.browser.chromium import Chromium, Look
from tests.standin import Fault, Hub, Image, Terms, make_image, make_index
from tests.support.mirror import Mirror, Run

pytestmark = pytest.mark.timeout(180)
DAY = 24 * 60  # minutes
GAP = range(500, 540)  # minutes ago in which the mirror did not run
RAN = Figures(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, MINUTE)
IMAGES = {"library/node": "22-slim", "library/postgres": "17", "library/redis": "7"}


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    """A hub with the limit of clients without an account."""
    async with Hub(Terms(limit=100)) as hub:
        yield hub


@pytest.fixture
async def past(tmp_path: Path) -> Path:
    """A data folder with the figures of the last day."""
    folder, chance = tmp_path / "data", random.Random(7)
    folder.mkdir()
    index = await open_sqlite(folder)
    history = History(index)
    now = int(time.time()) // MINUTE * MINUTE
    for ago in range(DAY, 0, -1):
        if ago not in GAP:
            history.add("docker.io", now - ago * MINUTE, minute(ago, chance))
            history.add("", now - ago * MINUTE, RAN)
    await index.close()
    return folder


def minute(ago: int, chance: random.Random) -> Figures:
    """Make up a minute: a busy day, a quiet night."""
    busy = 1.2 + math.sin(2 * math.pi * (ago - 300) / DAY)
    requests = int(busy * chance.uniform(10, 40))
    hits = int(requests * chance.uniform(0.9, 1.0))
    sent = requests * 9_000_000
    asked = requests // 4
    return Figures(
        requests=requests,
        hits=hits,
        stale=0,
        errors=0,
        sent=sent,
        sent_from_cache=int(sent * chance.uniform(0.88, 1.0)),
        asked=asked,
        counted=int(asked > 4 and chance.random() < 0.05),
        spared=hits * 400,
        upstream_requests=requests - hits,
        upstream_failures=0,
        received=(requests - hits) * 9_000_000,
        evicted=0,
        ran=0,
    )


async def use(mirror: Mirror, hub: Hub) -> Image:
    """Have clients pull some images; returns the last one."""
    last = make_image("nginx", [300_000, 2_000_000])
    for name, tag in IMAGES.items():
        image = make_image(name, [400_000, 3_000_000, 900_000])
        hub.add(image, name, tag)
        for _ in range(3):
            await mirror.pull(name, tag, image)
    platforms = [make_image("alpine", [900_000], architecture=each) for each in ("amd64", "arm64")]
    hub.add(make_index(platforms), "library/alpine", "3.22")
    assert await mirror.serves("library/alpine", "3.22")
    assert await mirror.serves("library/alpine", platforms[0].digest)
    for number in range(2, 40):
        await mirror.ask_from(f"127.0.0.{number % 9 + 2}", "/v2/library/redis/manifests/7")
    hub.add(last, "library/nginx", "1.29")
    return last


async def test_the_pictures_of_the_documentation(
    past: Path, run: Run, hub: Hub, browser: Chromium, pictures: Path | None
) -> None:
    if pictures is None:
        pytest.skip("PICTURES names no folder: `make pictures`")
    del past  # in the data folder of `run`
    go = asyncio.Event()
    async with run() as mirror:
        image = await use(mirror, hub)
        hub.faults.add(
            Fault(kind="blob", reference=image.layers[1].digest, stall_after=800_000, until=go)
        )
        pull = asyncio.create_task(mirror.pull("library/nginx", "1.29", image))

        def taken() -> None:
            for name, path, look in (
                ("overview", "/", Look()),
                ("overview-phone", "/", Look("phone", dark=True)),
                ("image", "/images/docker.io/library/node:22-slim", Look()),
            ):
                browser.open(mirror.url + path, look)
                if path == "/":
                    browser.until("docker.io/library/nginx")
                browser.picture(pictures / f"{name}.png", 1150)

        await asyncio.to_thread(taken)
        go.set()
        await pull
