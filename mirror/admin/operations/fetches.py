"""`fetches`: lists the fetches under way."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from mirror.admin.messages import Fetches, FetchesOrder, Record, RunningFetch
from mirror.admin.operations.parts import OperationParts
from mirror.content.blobs.fetch_pool import FetchState


async def fetches(parts: OperationParts, _: FetchesOrder) -> AsyncGenerator[Record, None]:
    """Yield the fetches. Raises Unavailable without a running mirror."""
    states = parts.running("a list of fetches").fetches.states()
    yield Fetches(tuple(map(_running, states)))


def _running(state: FetchState) -> RunningFetch:
    return RunningFetch(
        repository=str(state.repository),
        digest=state.digest,
        received=state.received,
        size=state.size,
        rate=round(state.rate, 1),
        seconds=round(state.seconds, 1),
        followers=state.followers,
    )
