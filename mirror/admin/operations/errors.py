"""`errors`: lists recent requests that were no plain hits."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from itertools import islice

from mirror.admin.messages import ErrorsOrder, RecentRequest, RecentRequests, Record
from mirror.admin.operations.parts import OperationParts
from mirror.statistics.recent import NoHit

_WRONG = ("error", "refused", "stale")


async def errors(parts: OperationParts, order: ErrorsOrder) -> AsyncGenerator[Record, None]:
    """Yield the requests. Raises Unavailable without a running mirror."""
    parts.running("a list of recent requests")
    found = (each for each in parts.recorder.recent.newest() if _fits(each, order))
    rows = (RecentRequest(**each._asdict()) for each in islice(found, order.most))
    yield RecentRequests(tuple(rows))


def _fits(request: NoHit, order: ErrorsOrder) -> bool:
    if order.client is not None and order.client not in (request.client, request.user):
        return False
    if order.image is not None and not _is_of(request.image, order.image):
        return False
    if order.outcome is None:
        return request.outcome in _WRONG
    return order.outcome in ("any", request.outcome)


def _is_of(image: str, wanted: str) -> bool:
    """Whether an image is the wanted one, or is in the wanted repository."""
    return image == wanted or image.startswith((f"{wanted}:", f"{wanted}@", f"{wanted} ("))
