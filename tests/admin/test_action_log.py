"""Each order by the control socket has two lines in the log: its beginning, and its result."""

from __future__ import annotations

import asyncio
import re
import signal
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from mirror.admin.messages import GcOrder, StatusOrder
from tests.standin import Fault, Hub, make_image
from tests.support.command import fetch, launched, serving
from tests.support.mirror import Mirror
from tests.support.orders import ordered

REPOSITORY = "library/big"


async def test_an_order_has_its_result_in_the_log(
    mirror: Mirror, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    [_] = [record async for record in ordered(mirror.folder.path, GcOrder())]
    [_] = [record async for record in ordered(mirror.folder.path, StatusOrder())]
    lines = [each.message for each in caplog.records if each.message.startswith("order")]
    assert lines[0] == "order: gc"
    assert re.fullmatch(r'order ended after \d\.\d{3} s, \{.*"kind": "collected"\}: gc', lines[1])
    assert len(lines) == 2  # a look at figures has none


async def test_an_order_that_a_stop_cuts_has_its_result_in_the_log(
    hub: Hub, tmp_path: Path
) -> None:
    layer = make_image(7, [4_000_000])
    hub.add(layer, REPOSITORY, "latest")
    hub.add(make_image(8, [1000]), "library/app", "1")
    digest, data = layer.layers[0].digest, tmp_path / "data"
    hub.faults.add(Fault(kind="blob", reference=digest, stall_after=1_000_000, times=None))
    hub.faults.add(Fault(kind="manifest", repository="library/app", hang=True, times=None))
    flags = ("--upstream", f"docker.io={hub.url}", "--shutdown-grace", "4")
    async with serving(data, *flags) as mirror:
        url = await mirror.address()
        pulling = asyncio.create_task(_cut(f"{url}/v2/{REPOSITORY}/blobs/{digest}"))
        await hub.seen(lambda seen: seen.kind == "blob")
        mirror.send(signal.SIGTERM)
        await mirror.says("stopping: 1 transfer has")
        async with launched("refresh", "app:1", "--data-dir", data) as command:
            await mirror.says("order: refresh")
            told = await command.ended(30)
        ended = await mirror.ended()
        await pulling
    assert "broke off" in told.err
    assert ended.code == 0
    assert re.search(r"order ended after \d\.\d+ s, broken off: refresh app:1", ended.err)


async def _cut(url: str) -> None:
    with suppress(aiohttp.ClientError):
        await fetch(url)
