"""A blob is served where upstream has it and nowhere else, after any steps in any order."""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

import aiohttp
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mirror.app.daemon import running
from mirror.oci.digest import Digest
from mirror.settings import load
from mirror.storage.blobs.files import BlobFiles
from tests.standin import Blob, Fault, Hub
from tests.support.mirror import Mirror

NAMES = ("org/a", "org/b", "org/c", "org/d")
BLOBS = [
    Blob.of(random.Random(number).randbytes(size))
    for number, size in enumerate((900, 40_000, 300_000))
]
_PACE = 3_000_000  # bytes a second: the largest blob takes a tenth of one

_WAYS = ("GET", "GET", "HEAD", "leave", "evict", "unlink", "lose", "purge")
_step = st.tuples(st.sampled_from(_WAYS), st.sampled_from(NAMES))
# The simultaneous steps with one blob; after some bouts the mirror is restarted.
_bout = st.tuples(
    st.sampled_from(range(3)),
    st.lists(_step, min_size=3, max_size=12),
    st.sampled_from([False, True]),
)
_holders = st.fixed_dictionaries({name: st.sets(st.sampled_from(range(3))) for name in NAMES})

Bout: TypeAlias = tuple[int, list[tuple[str, str]], bool]


@dataclass
class World:
    """A mirror, and the pairs of repository and blob at upstream."""

    mirror: Mirror
    truth: set[tuple[str, str]]

    async def do(self, what: str, name: str, blob: Blob) -> None:
        """Ask for the blob, or upset its stored copy."""
        digest, stored = Digest(blob.digest), self.mirror.stored
        if what in ("GET", "HEAD"):
            got = await self.mirror.blob(name, digest, what)
            right = 200 if (name, digest) in self.truth else 404
            assert got.status == right, (what, name, blob)
            assert what == "HEAD" or right == 404 or got.body == blob.read()
        elif what == "leave":
            await self._leave(name, digest)
        elif what == "evict":
            await stored.evict(digest)
        elif what == "unlink":
            self.mirror.folder.blob(digest).unlink(missing_ok=True)
        elif what == "lose":
            await stored.discard(digest)
        else:
            stored.unlink(digest, name)

    async def _leave(self, name: str, digest: Digest) -> None:
        async with self.mirror.request(f"/v2/{name}/blobs/{digest}") as response:
            assert (response.status == 200) == ((name, digest) in self.truth)
            with contextlib.suppress(aiohttp.ClientError):
                await response.content.readany()

    def check(self) -> None:
        """Fail if a stored blob is linked to a repository that never had it at upstream."""
        for digest in self.mirror.stored.digests:
            for name in self.mirror.stored.repositories(digest):
                assert (name, digest) in self.truth, (name, digest)


@asynccontextmanager
async def started(hub: Hub, folder: Path) -> AsyncIterator[Mirror]:
    """Start a mirror of the hub that remembers no blob as missing."""
    given_ = {
        "listen": "127.0.0.1:0",
        "data_dir": folder,
        "upstreams": {"docker.io": {"url": hub.url}},
        "shutdown_grace": 1,
        "limit_check": 0,
        "missing_ttl": 0,
    }
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with (
        running(load(given_)) as daemon,
        aiohttp.ClientSession(connector=connector) as session,
    ):
        yield Mirror(daemon, session)


async def play(holders: dict[str, set[int]], bouts: list[Bout]) -> None:
    """Play all bouts, and check the links after each."""
    truth = {(name, BLOBS[each].digest) for name, held in holders.items() for each in held}
    with tempfile.TemporaryDirectory(prefix="mirror-membership-") as folder:
        async with Hub() as hub:
            hub.terms.auth, hub.terms.redirect = "none", False
            hub.faults.add(Fault(kind="blob", method="GET", rate=_PACE, times=None))
            for name, held in holders.items():
                home = hub.repositories.make(name)
                home.blobs |= {BLOBS[each].digest: BLOBS[each] for each in held}
            left = list(bouts)
            while left:
                async with started(hub, Path(folder)) as mirror:
                    left = await _life(World(mirror, truth), left)


async def _life(world: World, bouts: list[Bout]) -> list[Bout]:
    """Play up to the next restart; returns the bouts that are left."""
    for number, (which, steps, again) in enumerate(bouts):
        async with asyncio.timeout(20):
            await asyncio.gather(*(world.do(*step, BLOBS[which]) for step in steps))
        await world.mirror.settled()
        world.check()
        if again:
            return bouts[number + 1 :]
    return []


@given(holders=_holders, bouts=st.lists(_bout, min_size=2, max_size=8))
@settings(max_examples=25, phases=[Phase.generate])  # shrinking an example takes minutes
def test_a_blob_is_given_where_upstream_has_it_and_nowhere_else(
    holders: dict[str, set[int]], bouts: list[Bout]
) -> None:
    chance, true = random.Random(len(bouts)), BlobFiles.open

    def late(files: BlobFiles, digest: Digest) -> IO[bytes]:
        time.sleep(chance.choice([0, 0, 0.005, 0.03]))
        return true(files, digest)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(BlobFiles, "open", late)
        asyncio.run(play(holders, bouts))
