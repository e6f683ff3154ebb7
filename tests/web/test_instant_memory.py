"""The memory of known requests: their number, and nothing beyond a reload."""

from __future__ import annotations

import gc

from mirror.web.known_requests import KnownRequests
from mirror.web.router import Router
from tests.standin import Image
from tests.support.mirror import Mirror
from tests.support.reloading import Changing, reload
from tests.web.talk import TAG, head, known, talking


def blob_path(digest: str) -> str:
    """Return the path of a blob."""
    return f"/v2/library/nginx/blobs/{digest}"


def routers() -> int:
    """Return the number of routers in memory."""
    gc.collect()
    return sum(isinstance(each, Router) for each in gc.get_objects())


def tables() -> set[KnownRequests]:
    """Return all tables in memory that hold requests."""
    return {each for each in gc.get_objects() if isinstance(each, KnownRequests) and len(each)}


async def test_known_requests_hold_no_router_that_a_reload_replaced(
    changing: Changing, image: Image
) -> None:
    async with changing.running() as mirror, talking(mirror) as talk:
        before = routers()
        for number in range(3):
            await known(talk, head(TAG, Accept=f"text/{number}"))
            await reload(mirror)
        await known(talk, head(TAG))
        assert routers() == before


async def test_requests_for_large_content_are_not_known(mirror: Mirror, image: Image) -> None:
    before = tables()
    await mirror.pull("library/nginx", "latest", image)
    async with talking(mirror) as talk:
        for blob in image.blobs:
            for _ in range(2):
                assert len((await talk.ask(head(blob_path(blob.digest)))).body) == blob.size
    (table,) = tables() - before
    assert len(table) == 1
    assert table.get(head(blob_path(image.config.digest))) is not None
