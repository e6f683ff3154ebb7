"""The clients: each pulls one image in its manner, proves the bytes, and notes the outcome."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from dataclasses import dataclass
from typing import Literal, TypeAlias

import aiohttp

from tests.standin import Blob, Image
from tests.standin.blobs import digest_of
from tests.torture.plan import ClientPlan
from tests.torture.world import World, repository

End: TypeAlias = Literal["complete", "wrong", "unproven", "refused", "cut", "left", "hung"]
ANSWERS_WITHIN = 25.0  # s until an answer begins: answer_timeout, plus a fetch's resumptions
ENDS_WITHIN = 60.0  # s for a whole body: the largest blob, with each planned break resumed
_TRIES = 4
_TRIES_AGAIN_AFTER = 0.5  # s
_SIP = 32 * 1024  # bytes of a slow client's read
_SIP_EVERY = 0.02  # s
_SIPPED = 2 * 1024 * 1024  # bytes after which a slow client speeds up: rounds are short
_LEAVES_SLOWLY = 0.3  # s for which a deaf client stays connected


@dataclass(frozen=True)
class Outcome:
    """One request and its end. `began` and `ended` are by the monotonic clock."""

    kind: Literal["tag", "manifest", "blob"]
    tag: int
    digest: str
    manner: str
    end: End
    began: float
    ended: float
    received: int = 0
    status: int | None = None
    detail: str = ""

    def __str__(self) -> str:
        seconds = f"{self.ended - self.began:.1f} s"
        named = f"{self.kind} {self.digest[:19]} of {repository(self.tag)} ({self.manner})"
        return f"{named}: {self.end} {self.status or ''} {self.detail} after {seconds}"


@dataclass(frozen=True)
class Wanted:
    """A request's target and its right content: a whole body, or a range of a blob."""

    kind: Literal["manifest", "blob"]
    blob: Blob
    start: int = 0
    stop: int | None = None

    @property
    def digest(self) -> str:
        """Name the content."""
        return self.blob.digest

    @property
    def length(self) -> int:
        """Return the number of requested bytes."""
        return (self.blob.size if self.stop is None else self.stop) - self.start

    def proves(self, found: str) -> bool:
        """Tell whether this is the digest of the requested bytes."""
        if self.stop is None:
            return found == self.digest
        return found == digest_of(self.blob.read()[self.start : self.stop])

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers of a request for the range, if it is one."""
        return {} if self.stop is None else {"Range": f"bytes={self.start}-{self.stop - 1}"}


class Client:
    """One client of the daemon at `url`; all clients of a round write to `outcomes`."""

    def __init__(self, plan: ClientPlan, url: str, world: World, outcomes: list[Outcome]) -> None:
        self._plan = plan
        self._url = f"{url}/v2/{repository(plan.tag)}"
        self._world = world
        self._outcomes = outcomes
        self._chance = random.Random(plan.seed)

    async def run(self) -> bool:
        """Pull as planned, from `begins` seconds on; True if the whole image came.

        The client tries again, as engines do, unless the plan has it leave.
        """
        await asyncio.sleep(self._plan.begins)
        for _ in range(1 if self._plan.manner in ("leaves", "deaf") else _TRIES):
            if await self._pull():
                return True
            await asyncio.sleep(_TRIES_AGAIN_AFTER)
        return False

    async def _pull(self) -> bool:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
            image = await self._resolve(session)
            if image is None:
                return False
            manifest = Wanted("manifest", Blob.of(image.manifest))
            if not await self._get(session, manifest):
                return False
            gets = (self._get(session, each) for each in self._wanted(image))
            return all(await asyncio.gather(*gets))

    def _wanted(self, image: Image) -> list[Wanted]:
        wanted = [Wanted("blob", blob) for blob in image.blobs]
        return [self._part(each) for each in wanted] if self._plan.manner == "ranges" else wanted

    def _part(self, whole: Wanted) -> Wanted:
        start = self._chance.randrange(whole.blob.size)
        stop = self._chance.randint(start + 1, whole.blob.size)
        return Wanted("blob", whole.blob, start, stop)

    async def _resolve(self, session: aiohttp.ClientSession) -> Image | None:
        """Resolve the tag by HEAD, as dockerd does, unless the plan gives the image."""
        if self._plan.image is not None:
            return self._world.image(self._plan.image)
        began = time.monotonic()
        status, digest, end, detail = None, "", "complete", ""
        try:
            async with (
                asyncio.timeout(ANSWERS_WITHIN),
                session.head(f"{self._url}/manifests/latest") as response,
            ):
                status, digest = response.status, response.headers.get("Docker-Content-Digest", "")
            if status != 200:
                end = "refused"
            elif digest not in self._world.meant[self._plan.tag]:
                end, detail = "wrong", "the tag never meant this"
        except TimeoutError:
            end = "hung"
        except aiohttp.ClientError as error:
            end, detail = "cut", type(error).__name__
        self._note("tag", digest, began, end, status=status, detail=detail)  # type: ignore[arg-type]
        return self._world.manifests.get(digest) if end == "complete" else None

    async def _get(self, session: aiohttp.ClientSession, wanted: Wanted) -> bool:
        """Request a body, read it in the client's manner, and compare it."""
        began = time.monotonic()
        reading = Reading(wanted, self._plan)
        try:
            async with asyncio.timeout(ENDS_WITHIN):
                await reading.run(session, f"{self._url}/{wanted.kind}s/{wanted.digest}")
        except TimeoutError:
            reading.end, reading.detail = "hung", f"at {reading.received} of {wanted.length}"
        except aiohttp.ClientError as error:
            reading.end, reading.detail = "cut", f"{type(error).__name__} at {reading.received}"
        self._note(
            wanted.kind,
            wanted.digest,
            began,
            reading.end,
            received=reading.received,
            status=reading.status,
            detail=reading.detail,
        )
        return reading.end == "complete"

    def _note(
        self,
        kind: Literal["tag", "manifest", "blob"],
        digest: str,
        began: float,
        end: End,
        *,
        received: int = 0,
        status: int | None = None,
        detail: str = "",
    ) -> None:
        plan, now = self._plan, time.monotonic()
        self._outcomes.append(
            Outcome(kind, plan.tag, digest, plan.manner, end, began, now, received, status, detail)
        )


class Reading:
    """One read of a body; `end` is its outcome."""

    def __init__(self, wanted: Wanted, plan: ClientPlan) -> None:
        self.end: End = "wrong"
        self.status: int | None = None
        self.received = 0
        self.detail = ""
        self._wanted = wanted
        self._plan = plan
        self._hash = hashlib.sha256()

    async def run(self, session: aiohttp.ClientSession, url: str) -> None:
        """Ask and read; raises TimeoutError and ClientError."""
        asking = session.get(url, headers=self._wanted.headers, timeout=aiohttp.ClientTimeout())
        async with asyncio.timeout(ANSWERS_WITHIN):
            response = await asking
        try:
            self.status = response.status
            if self.status in (200, 206):
                await self._read(response)
            else:
                outside = self.status == 416  # by the size that upstream claims
                self.end = "unproven" if outside and self._wanted.stop else "refused"
                self.detail = (await response.text())[:200]
        finally:
            if self.end == "complete":
                response.release()
            else:
                response.close()

    async def _read(self, response: aiohttp.ClientResponse) -> None:
        plan, blob = self._plan, self._wanted.kind == "blob"
        if blob and plan.manner == "deaf":
            await asyncio.sleep(_LEAVES_SLOWLY)
            self.end = "left"
            return
        slow = blob and plan.manner == "slow"
        leaves_at = int(plan.share * self._wanted.length)
        while data := await response.content.read(_SIP if slow else 2**20):
            self.received += len(data)
            self._hash.update(data)
            if blob and plan.manner == "leaves" and self.received >= leaves_at:
                self.end = "left"
                return
            if slow:
                await asyncio.sleep(_SIP_EVERY)
                slow = self.received < _SIPPED
        self._judge()

    def _judge(self) -> None:
        """Compare a completed body with the right one."""
        if self.received != self._wanted.length:
            self.detail = f"completed with {self.received} bytes of {self._wanted.length}"
        elif not self._wanted.proves("sha256:" + self._hash.hexdigest()):
            self.detail = "completed with other bytes"
            self.end = "wrong" if self._wanted.stop is None else "unproven"
        else:
            self.end = "complete"
