"""An instant answer differs in nothing from the answer to a request that is parsed.

Two mirrors live through the same steps. To the second, each request has a header more that means
nothing, so that all of its requests are parsed.
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import aiohttp
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mirror.app.core import Clocks
from mirror.app.daemon import running
from mirror.settings import load
from mirror.util.log_writer import LogWriter
from tests.standin import Hub, make_image, make_index
from tests.support.clock import Clock
from tests.support.mirror import Mirror
from tests.web.talk import Said, Talk, head, instant, manifest, talking

IMAGES = [make_image(number, [40_000, 200_000]) for number in range(3)]
INDEX = make_index(IMAGES[:2])
NAMES = ("library/nginx", "library/other")
_UNHEARD_OF = "X-Unheard-Of: 1\r\n"
_TTL = 60.0  # seconds
_LIVES = ("mirror_process", "python_", "process_", "mirror_log", "mirror_loop", "mirror_cache_b")
_TIMES = ("seconds", "_created", "instant_answers", "connections", "build_info")

_references = ["latest", "stable", "gone", IMAGES[0].digest, IMAGES[1].digest, INDEX.digest]
_paths = [manifest(reference, name) for name in NAMES for reference in _references]
_paths += [f"/v2/{NAMES[0]}/blobs/{blob.digest}" for blob in (IMAGES[0].config, *IMAGES[0].layers)]
_paths += ["/v2/", f"{manifest('latest')}?ns=docker.io"]
_ways = [{}, {}, {}, {"Accept": "*/*"}, {"Connection": "keep-alive"}, {"Range": "bytes=0-9"}]
_ways += [{"If_None_Match": f'"{IMAGES[0].digest}"'}, {"Host": ""}, {"Authorization": "Basic YTpi"}]

_request = st.tuples(
    st.sampled_from(_paths), st.sampled_from(["GET", "GET", "HEAD"]), st.sampled_from(_ways)
)
# Requests that arrive together, on one of two connections, in pieces that end at these places.
_ask = st.tuples(
    st.lists(_request, min_size=1, max_size=3),
    st.sampled_from([0, 1]),
    st.lists(st.integers(1, 600), max_size=2),
)
_step = st.one_of(
    _ask,
    _ask,
    st.sampled_from(["again", "again", "wait", "end", "move", "untag", "back", "lose", "unlink"]),
)
Ask: TypeAlias = tuple[list[tuple[str, str, dict[str, str]]], int, list[int]]


@dataclass
class World:
    """A mirror of a hub of its own, the connections to it, and its log; `more` is in each head."""

    hub: Hub
    mirror: Mirror
    clock: Clock
    talks: list[Talk]
    more: str
    last: Ask | None = None
    said: list[Said] = field(default_factory=list)

    async def fill(self) -> None:
        """Have all blobs stored, in order: two that come at once end in any order."""
        for blob in (IMAGES[0].config, *IMAGES[0].layers):
            await self.mirror.blob(NAMES[0], blob.digest)
            await self.mirror.settled()

    async def do(self, step: Ask | str) -> list[Said]:
        """Take a step; returns the answers."""
        if isinstance(step, tuple):
            self.last = step
            return await self._ask(*step)
        if step == "again" and self.last is not None:
            requests, connection, _ = self.last
            return await self._ask(requests[:1], connection, [])
        await self._upset(step)
        return []

    async def _ask(
        self, requests: list[tuple[str, str, dict[str, str]]], connection: int, cuts: list[int]
    ) -> list[Said]:
        text, talk = b"".join(self._head(*each) for each in requests), self.talks[connection]
        for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), len(text)], strict=True):
            talk.writer.write(text[start:stop])
            await asyncio.sleep(0)
        answers = [await talk.read(bodiless=method == "HEAD") for _, method, _ in requests]
        return [answer._replace(request_id="") for answer in answers]

    def _head(self, path: str, method: str, headers: dict[str, str]) -> bytes:
        return head(path, method, **headers)[:-2] + self.more.encode() + b"\r\n"

    async def _upset(self, step: str) -> None:
        stored, digest = self.mirror.stored, IMAGES[0].digest
        if step in ("wait", "end"):
            self.clock.now += _TTL / 3 if step == "wait" else _TTL + 1
        elif step == "move":
            self.hub.tag(NAMES[0], "latest", IMAGES[1])
        elif step == "untag":
            self.hub.untag(NAMES[0], "latest")
        elif step == "back":
            self.hub.tag(NAMES[0], "latest", IMAGES[0])
        elif stored.has(digest) and step == "lose":
            await stored.evict(digest)
        elif stored.has(digest) and NAMES[0] in stored.repositories(digest):
            stored.unlink(digest, NAMES[0])

    async def figures(self) -> dict[str, str]:
        """Return all metrics that the time does not decide."""
        lines = (await self.mirror.ask("/metrics")).text.splitlines()
        named = (line.rpartition(" ")[::2] for line in lines if not line.startswith("#"))
        return {
            name: value
            for name, value in named
            if not name.startswith(_LIVES) and not any(each in name for each in _TIMES)
        }


@asynccontextmanager
async def world(folder: Path, more: str) -> AsyncIterator[World]:
    """Run a mirror whose log is written to `folder/log`."""
    clock = Clock()
    keys = {"listen": "127.0.0.1:0", "data_dir": folder / "data", "shutdown_grace": 1}
    # Nobody asks upstream but the steps: questions at other times may come between two figures.
    keys |= {"limit_check": 0, "tag_ttl": _TTL, "tag_refresh_ahead": 0}
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(Hub())
        for name, image in zip(NAMES, (IMAGES[0], IMAGES[2]), strict=True):
            hub.add(image, name, "latest")
        hub.add(INDEX, NAMES[0], "stable")
        descriptor = os.open(folder / "log", os.O_WRONLY | os.O_CREAT)
        stack.callback(os.close, descriptor)
        log = stack.enter_context(LogWriter(descriptor, str))
        settings_ = load({**keys, "upstreams": {"docker.io": {"url": hub.url}}})
        clocks = Clocks(timer=clock, wall=clock.wall)
        daemon = await stack.enter_async_context(running(settings_, clocks, log))
        session = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
        mirror = Mirror(daemon, session)
        talks = [await stack.enter_async_context(talking(mirror)) for _ in range(2)]
        yield World(hub, mirror, clock, talks, more)


def log_of(folder: Path) -> list[str]:
    """Return the access log without times and ids."""
    text = (folder / "log").read_text().replace(str(folder), "")
    lines = [line for line in text.splitlines() if " target=/metrics " not in line]
    return [re.sub(r"^\S+| seconds=\S+| request=\S+", "", line) for line in lines]


async def play(steps: list[Ask | str], folder: Path) -> int:
    """Play all steps in both worlds; returns the number of instant answers."""
    folders = [folder / name for name in ("plain", "parsed")]
    for each in folders:
        each.mkdir()
    async with AsyncExitStack() as stack:
        plain, parsed = [
            await stack.enter_async_context(world(each, more))
            for each, more in zip(folders, ("", _UNHEARD_OF), strict=True)
        ]
        async with asyncio.timeout(40):
            for each_world in (plain, parsed):
                await each_world.fill()
            for step in steps:
                assert await plain.do(step) == await parsed.do(step), step
                await plain.mirror.settled()
                await parsed.mirror.settled()
                assert plain.mirror.stored.digests == parsed.mirror.stored.digests  # by last use
        assert await plain.figures() == await parsed.figures()
        assert await instant(parsed.mirror) == 0
        given_ = await instant(plain.mirror)
    assert log_of(folders[0]) == log_of(folders[1])
    return given_


@given(st.lists(_step, min_size=8, max_size=24))
@settings(max_examples=20, phases=[Phase.generate])  # shrinking an example takes minutes
def test_an_instant_answer_is_the_answer_to_the_parsed_request(steps: list[Ask | str]) -> None:
    with tempfile.TemporaryDirectory(prefix="mirror-instant-") as folder:
        asyncio.run(play(steps, Path(folder)))


def test_steps_of_the_contract_have_instant_answers() -> None:
    asks: list[Ask | str] = [([(path, "GET", {})], 0, []) for path in _paths[:1] + _paths[3:4]]
    steps = [*asks, *asks, *asks, "again", "wait", "again", "end", *asks]
    with tempfile.TemporaryDirectory(prefix="mirror-instant-") as folder:
        assert asyncio.run(play(steps, Path(folder))) == 6
