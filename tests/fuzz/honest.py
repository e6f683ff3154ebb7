"""The honest side, a separate process: an upstream by the book, and a client that pulls from it.

The process reads a command from each line and answers with a line: `meet` a daemon and pull all
warm content, `begin` a round, `end` it and report the faults.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

import aiohttp

from tests.standin import Hub, Image, make_image
from tests.standin.blobs import digest_of
from tests.standin.stats import is_body

WARM, BULK, COLD = "library/warm", "library/bulk", "library/cold"
PATIENCE = 8.0  # s for one request, which takes milliseconds without hostile peers
_WARM_EVERY = 0.1  # s
_COLD_EVERY = 0.7  # s
_BULK_SIZES = (4_000_000,) * 6  # so large that little room is left beside it
_COLD_SIZES = (2_000, 60_000, 400_000)
_COLDS = 4  # images in a round
_ACCEPT = {"Accept": "application/vnd.oci.image.manifest.v1+json"}


class Honest:
    """Pulls from `hub` through the daemon; `wrong` are answers that no client may see."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.wrong: list[str] = []
        self.had = 0
        self.slowest = 0.0
        self._url = ""
        self._met = False
        self._warm = make_image("warm", (1_000, 300_000, 2_000_000))
        self._bulk = make_image("bulk", _BULK_SIZES)
        self._session: aiohttp.ClientSession | None = None
        self._running: list[asyncio.Task[None]] = []
        hub.add(self._warm, WARM, "latest")
        hub.add(self._bulk, BULK, "latest")

    async def meet(self, url: str) -> dict[str, Any]:
        """Pull the warm content, through a daemon that has none of it or all."""
        self._url = url
        await self.begin("")
        await self._pull(WARM, "latest", self._warm)
        said = await self.end()
        manifest, layer = self._warm.digest, self._warm.layers[-1].digest
        return said | {"manifest": manifest, "warm": layer}

    async def begin(self, salt: str) -> dict[str, Any]:
        """Begin to pull the warm image again and again, and the cold images one after another."""
        self.wrong, self.had, self.slowest = [], 0, 0.0
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), auto_decompress=False
        )
        images = [make_image(f"{salt}-{number}", _COLD_SIZES) for number in range(_COLDS)]
        if salt:
            for number, image in enumerate(images):
                self.hub.add(image, COLD, f"{salt}-{number}")
            runs: list[Awaitable[None]] = [self._keep_warm(), self._pull_cold(salt, images)]
            self._running = [asyncio.ensure_future(run) for run in runs]
        return {"cold": images[-1].layers[1].digest}

    async def end(self) -> dict[str, Any]:
        """End the round after all cold pulls, and check that stored content is still stored."""
        if self._running:
            warm, cold = self._running
            await asyncio.wait([cold])
            warm.cancel()
            results = await asyncio.gather(warm, cold, return_exceptions=True)
            self.wrong += [f"{each!r}" for each in results if isinstance(each, Exception)]
            self._running = []
        await self._pull(BULK, "latest", self._bulk)
        assert self._session is not None
        await self._session.close()
        kept = {blob.digest for image in (self._warm, self._bulk) for blob in image.blobs}
        again = [seen for seen in self.hub.requests if is_body(seen) and seen.digest in kept]
        self.hub.journal.clear()
        if again and self._met:
            self.wrong.append(f"what was kept was fetched again, {len(again)} bodies")
        self._met = True
        return {"wrong": self.wrong[:20], "had": self.had, "slowest": self.slowest}

    async def _keep_warm(self) -> None:
        while True:
            await self._pull(WARM, "latest", self._warm)
            await asyncio.sleep(_WARM_EVERY)

    async def _pull_cold(self, salt: str, images: list[Image]) -> None:
        for number, image in enumerate(images):
            await asyncio.sleep(_COLD_EVERY)
            await self._pull(COLD, f"{salt}-{number}", image)

    async def _pull(self, repository: str, tag: str, image: Image) -> None:
        await self._get(f"{repository}/manifests/{tag}", image.digest)
        await self._get(f"{repository}/manifests/{image.digest}", image.digest)
        blobs = (
            self._get(f"{repository}/blobs/{each.digest}", each.digest) for each in image.blobs
        )
        await asyncio.gather(*blobs)

    async def _get(self, path: str, digest: str) -> None:
        began = time.monotonic()
        said = "nothing came"
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                said = await self._ask(path, digest)
        took = time.monotonic() - began
        self.slowest = max(self.slowest, took)
        self.had += not said
        if said:
            self.wrong.append(f"{path[:60]}: {said} after {took:.1f} s")

    async def _ask(self, path: str, digest: str) -> str:
        assert self._session is not None
        try:
            async with self._session.get(f"{self._url}/v2/{path}", headers=_ACCEPT) as response:
                body = await response.read()
        except aiohttp.ClientError as error:
            return f"broke off: {error!r}"
        if response.status != 200:
            return f"{response.status} {body[:200]!r}"
        return "" if digest_of(body) == digest else "other bytes"


async def main() -> None:
    """Serve commands until the input ends."""
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    async with Hub() as hub:
        honest = Honest(hub)
        _say({"url": hub.url})
        while line := await reader.readline():
            name, *arguments = json.loads(line)
            _say(await getattr(honest, name)(*arguments))


def _say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
