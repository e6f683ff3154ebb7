"""`errors`: the order and its result: recent requests that were no plain hits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass as checked

from mirror.admin.messages.common import STRICT


@checked(frozen=True, config=STRICT)
class ErrorsOrder:
    """List recent requests that were no plain hits, newest first, of one client, image or outcome.

    Without an `outcome`, errors, refusals and stale answers. `client` is an address or a user's
    name; `image` a repository with its upstream, or an image of it.
    """

    client: str | None = None
    image: str | None = None
    outcome: Literal["error", "refused", "stale", "miss", "revalidated", "any"] | None = None
    most: Annotated[int, Field(gt=0, le=200)] = 200
    kind: Literal["errors"] = "errors"

    def __str__(self) -> str:
        """Return the order as the operator types it."""
        return self.kind


@dataclass(frozen=True, slots=True)
class RecentRequest:
    """A request that was no plain hit; `at` in epoch seconds, `sent` in bytes.

    `cause` is the reason, `request` the id in the request's log line. The `outcome` of a request
    that the mirror itself refused (a wrong login, a rate) is `refused`.
    """

    at: float
    client: str
    user: str
    image: str
    method: str
    status: int
    outcome: str
    cause: str
    sent: int
    seconds: float
    request: str


@dataclass(frozen=True, slots=True)
class RecentRequests:
    """The requests, newest first."""

    requests: tuple[RecentRequest, ...]
    kind: Literal["recent_requests"] = "recent_requests"
