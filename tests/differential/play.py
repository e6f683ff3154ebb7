"""The play: one scene, pulled directly and through a mirror, and the mirror's faults."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, redirect_stderr, suppress
from dataclasses import replace
from pathlib import Path

import aiohttp
from yarl import URL

from mirror.app.daemon import Daemon, running
from mirror.settings import Settings, load
from mirror.util.log_writer import LogWriter
from tests.differential import judge
from tests.differential.asking import Asking
from tests.differential.content import APP, OTHER, TAG
from tests.differential.plain import Got, Plain
from tests.differential.scene import Manner, Scene
from tests.differential.upstream import PASSWORD, USER, Seen, Upstream

FIRST = "first.test"  # the upstream of the earlier pull of the layers
HEALS_WITHIN = 15.0  # s after upstream is well until clients get everything
_LOOKS_EVERY = 0.2  # s
_SETTLES_WITHIN, _SETTLES_IN = 5.0, 0.005  # s
_LEAVES_AFTER = 256 * 1024  # bytes
_NOWHERE = "http://127.0.0.1:9"


def played(scene: Scene) -> list[str]:
    """Play a scene; returns the faults. The mirror's log is discarded."""
    shm = Path("/dev/shm")  # a file system without a disk
    with (
        tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as folder,
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        redirect_stderr(nowhere),
    ):
        return asyncio.run(play(scene, Path(folder)))


async def play(scene: Scene, folder: Path) -> list[str]:
    """Play a scene with a mirror that has its data in `folder`; returns the faults.

    After a fault the play does not wait for the mirror to heal.
    """
    direct, costs = await _direct(scene)
    truth, _ = await _direct(replace(scene, deviations=()))
    still = replace(scene, deviations=(), moves=False)
    before = (await _direct(still))[0] if scene.moves else truth
    wrong: list[str] = []
    with _alarms(wrong):
        paced = scene.manner == "leaves"
        async with (
            Upstream(scene, paced=paced) as upstream,
            Upstream(_well(scene)) as first,
        ):
            run = Mirrored(scene, upstream, first, folder, (direct, truth, before))
            await run.acts()
            wrong += run.wrong
            wrong += judge.cost(scene, costs, upstream.seen, direct, run.visits)
            if not wrong:
                wrong += await run.heals()
    return list(dict.fromkeys(wrong))


def _well(scene: Scene) -> Scene:
    return replace(scene, deviations=(), account=False)


async def _direct(scene: Scene) -> tuple[Got, list[Seen]]:
    """Pull without a mirror, from a separate upstream with the same deviations."""
    async with Upstream(scene) as upstream, _session() as session:
        account = (USER, PASSWORD) if scene.account else None
        asking = Asking(session, upstream.url, account, 1.0 if scene.hangs else 10.0)
        client = Plain(asking)
        if scene.moves:
            upstream.move()
        await _client(client, replace(scene, manner=_as_plain(scene)), upstream)
        return client.got, upstream.seen


def _as_plain(scene: Scene) -> Manner:
    return scene.manner if scene.manner in ("shares", "lists") else "plain"


async def _client(client: Plain, scene: Scene, upstream: Upstream, known: str = "") -> None:
    """Pull once, as clients of the scene's manner do."""
    if scene.manner == "lists":
        await client.lists(APP, upstream.has.top.digest)
    if scene.manner == "shares":
        await client.pull(OTHER, known=known)
    await client.pull(APP, head=scene.manner == "head", known=known)


class Mirrored:
    """A scene as it is played before a mirror.

    `known` are the items of plain clients: as upstream deviates, when it is well, and before any
    pull.
    """

    def __init__(
        self,
        scene: Scene,
        upstream: Upstream,
        first: Upstream,
        folder: Path,
        known: tuple[Got, Got, Got],
    ) -> None:
        self._scene = scene
        self._upstream = upstream
        self._first = first
        self._folder = folder
        self._known = known
        self._direct, self._truth, self._before = known
        self.visits = 0  # pulls of clients
        self.wrong: list[str] = []

    async def acts(self) -> None:
        """Pull in one life of the mirror, and once more in the next life."""
        self._upstream.deviates = not self._scene.warm
        async with self._mirror() as url:
            if self._scene.warm:
                await self._keep(url)
            if self._left:
                await self._leave(url)
            else:
                await self._visit(url, "at first")
        async with self._mirror() as url:
            await self._visit(url, "after a restart", again=True)

    async def heals(self) -> list[str]:
        """Let upstream be well, and pull until clients get everything, or the time is up."""
        self._upstream.deviates = False
        wanted = judge.healing(self._scene, self._truth)
        lacking: list[str] = []
        async with self._mirror() as url:
            until = time.monotonic() + HEALS_WITHIN
            while time.monotonic() < until:
                got = await self._pull(url, tries=1)
                lacking = judge.lacking("once upstream is well", wanted, got)
                if not lacking:
                    return judge.lies(got, *self._known)
                await asyncio.sleep(_LOOKS_EVERY)
        return lacking

    async def _keep(self, url: str) -> None:
        """Let the mirror store everything, before upstream deviates and the tag moves."""
        self.visits += 1
        self.wrong += judge.lacking("before it deviates", self._before, await self._pull(url, 1))
        self._upstream.deviates = True
        if self._scene.moves:
            self._upstream.move()

    async def _visit(self, url: str, when: str, *, again: bool = False) -> None:
        self.visits += 1
        got = await self._pull(url, tries=2 if self._direct.again else 1)
        wanted = judge.required(self._scene, self._known, got)
        wanted = judge.lasting(self._scene, wanted) if again else wanted
        self.wrong += judge.lacking(when, wanted, got)
        self.wrong += judge.lies(got, *self._known)

    async def _pull(self, url: str, tries: int) -> Got:
        async with _session() as session:
            if self._scene.manner == "upstreams":
                await Plain(Asking(session, f"{url}/{FIRST}", patience=20.0)).pull(APP)
            asking = Asking(session, f"{url}/{self._scene.upstream}", patience=20.0)
            client = Plain(asking, tries)
            known = self._upstream.has.top.digest if self._scene.warm else ""
            await _client(client, self._scene, self._upstream, known)
            return client.got

    @property
    def _left(self) -> bool:
        return self._scene.manner == "leaves" and not self._scene.warm

    async def _leave(self, url: str) -> None:
        """Resolve the tag, read the beginning of the large layer, and leave."""
        self.visits += 1
        base = f"{url}/{self._scene.upstream}"
        async with _session() as session:
            await Plain(Asking(session, base)).by_tag(APP, TAG)
            blob = URL(f"{base}/v2/{APP}/blobs/{self._upstream.has.order[-1]}", encoded=True)
            with suppress(aiohttp.ClientError):  # upstream may have cut it off before
                async with session.get(blob) as response:
                    await _sip(response)

    @asynccontextmanager
    async def _mirror(self) -> AsyncIterator[str]:
        """Run the mirror; it ends without running fetches, unless a client has just left one."""
        settings = _settings(self._scene, self._upstream, self._first, self._folder)
        with _nowhere() as log_writer:
            async with running(settings, log_writer=log_writer) as daemon:
                yield str(daemon.url).rstrip("/")
                if not (self.visits == 1 and self._left):
                    await _settled(daemon)


@contextmanager
def _nowhere() -> Iterator[LogWriter]:
    """Discard an access log."""
    with Path(os.devnull).open("wb") as nowhere, LogWriter(nowhere.fileno(), str) as log_writer:
        yield log_writer


async def _sip(response: aiohttp.ClientResponse) -> None:
    """Read the beginning of a body, and hang up."""
    read = 0
    while response.status == 200 and read < _LEAVES_AFTER:
        data = await response.content.readany()
        if not data:
            break
        read += len(data)
    response.close()


async def _settled(daemon: Daemon) -> None:
    """Wait until all fetches have ended, so that each run of a scene is the same."""
    for _ in range(round(_SETTLES_WITHIN / _SETTLES_IN)):
        if not len(daemon.fetches):
            break
        await asyncio.sleep(_SETTLES_IN)


def _settings(scene: Scene, upstream: Upstream, first: Upstream, folder: Path) -> Settings:
    account = {"username": USER, "password": PASSWORD, "realms": [upstream.realm]}
    odd = {"url": upstream.url, "private": "everyone"} | (account if scene.account else {})
    hasty = scene.hangs
    return load(
        {
            "listen": "127.0.0.1:0",
            "data_dir": folder,
            "upstreams": {"docker.io": {"url": _NOWHERE}, FIRST: {"url": first.url}}
            | {scene.upstream: odd},
            "tag_ttl": scene.tag_ttl,
            "missing_ttl": 0.5,
            "stale_after": 0.4 if hasty else 2.5,
            "abandon_after": 0,
            "shutdown_grace": 0,
            "limit_check": 0,
            "connect_timeout": 2,
            "answer_timeout": 1.2 if hasty else 8,
            "silence_timeout": 0.8 if hasty else 8,
            "resume_timeout": 1,
        }
    )


@asynccontextmanager
async def _session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "plain/1.0"},
    ) as session:
        yield session


class _Alarm(logging.Handler):
    def __init__(self, told: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._told = told

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self._told.append(f"the mirror logged: {record.getMessage()}: {record.exc_info[1]!r}")


@contextmanager
def _alarms(told: list[str]) -> Iterator[None]:
    """Note the unforeseen errors of the mirror."""
    alarm = _Alarm(told)
    logging.getLogger().addHandler(alarm)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(alarm)
