"""A CI fleet's day, shortened: a daemon, real HTTP, a hub with a limit, twenty clients at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

from tests.budget.test_budget import gauge
from tests.standin import Blob, Document, Hub, Image, make_image, make_index
from tests.support.mirror import Mirror, Run

CLIENTS = 20
IMAGES = 12
WAVES = 3
MOVES = 4  # between two waves


def make_document(number: int, version: int) -> Document:
    """Make an image, or for every third number an index of two; versions share their base."""
    base = make_image(f"base/{number}", [200_000])
    images = [
        make_image(f"{number}/{version}", [50_000], architecture=architecture, base=base)
        for architecture in ("amd64", "arm64")
    ]
    return images[0] if number % 3 else make_index(images)


class Fleet:
    """Twelve repositories on a hub, and the clients that pull from them as dockerd does."""

    def __init__(self, hub: Hub, seed: int) -> None:
        self._hub = hub
        self._random = Random(seed)
        self._tagged: dict[str, Document] = {}
        self._versions: Counter[int] = Counter()
        self.asked = 0  # GETs of manifests
        self.manifests: set[str] = set()
        self.blobs: set[str] = set()
        for number in range(IMAGES):
            self._tag(number)

    def move_tags(self) -> None:
        """Let some tags point at another image."""
        for number in self._random.sample(range(IMAGES), MOVES):
            self._tag(number)

    def _tag(self, number: int) -> None:
        document = make_document(number, self._versions[number])
        self._versions[number] += 1
        self._tagged[f"team/image-{number}"] = document
        self._hub.tag(f"team/image-{number}", "latest", document)

    async def pull(self, mirror: Mirror) -> None:
        """Let all clients pull at once, each two thirds of the images; fails if any pull fails."""
        names, most = sorted(self._tagged), IMAGES * 2 // 3
        chosen = [self._random.sample(names, most) for _ in range(CLIENTS)]
        await asyncio.gather(*(self._client(mirror, each) for each in chosen))
        await mirror.settled()

    async def _client(self, mirror: Mirror, repositories: list[str]) -> None:
        for repository in repositories:
            document = self._tagged[repository]
            head = await mirror.manifest(repository, "latest", "HEAD")
            assert (head.status, head.headers["Docker-Content-Digest"]) == (200, document.digest)
            await self._manifest(mirror, repository, document)
            image = document if isinstance(document, Image) else document.images[0]
            if image is not document:
                await self._manifest(mirror, repository, image)
            await asyncio.gather(*(self._blob(mirror, repository, blob) for blob in image.blobs))

    async def _manifest(self, mirror: Mirror, repository: str, document: Document) -> None:
        got = await mirror.manifest(repository, document.digest)
        assert (got.status, got.body) == (200, document.manifest)
        self.asked += 1
        self.manifests.add(document.digest)

    async def _blob(self, mirror: Mirror, repository: str, blob: Blob) -> None:
        got = await mirror.blob(repository, blob.digest)
        assert (got.status, got.body) == (200, blob.read())
        self.blobs.add(blob.digest)


async def test_a_day_costs_a_pull_per_manifest_and_a_body_per_blob(hub: Hub, run: Run) -> None:
    """More than half of the limit is left, so that no change of a tag is held back."""
    hub.terms.limit = 100
    fleet = Fleet(hub, seed=7)
    async with run(tag_ttl=0) as mirror:
        for _ in range(WAVES):
            await fleet.pull(mirror)
            fleet.move_tags()
        pulls = [seen for seen in hub.requests if seen.counted]
        assert Counter(seen.digest for seen in pulls) == Counter(fleet.manifests)
        assert len(fleet.manifests) > IMAGES * 4 / 3 + MOVES
        assert {digest: hub.bodies(digest) for digest in fleet.blobs} == dict.fromkeys(
            fleet.blobs, 1
        )
        assert await gauge(mirror, "mirror_pull_used") == len(pulls)
        assert await gauge(mirror, "mirror_pulls_counted_total") == len(pulls)
        assert await gauge(mirror, "mirror_pull_remaining") == 100 - len(pulls)
        assert hub.limits.remaining() == 100 - len(pulls)
        assert await gauge(mirror, "mirror_pulls_asked_total") == fleet.asked
        assert await gauge(mirror, "mirror_pulls_saved") == fleet.asked - len(pulls)
        assert await gauge(mirror, "mirror_pull_gate_shuts_total") == 0
        for reason in ("fault", "limit", "saving"):
            assert await gauge(mirror, "mirror_stale_serves_total", reason=reason) == 0
