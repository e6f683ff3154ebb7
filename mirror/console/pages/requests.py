"""The recent requests at `/requests`, filtered by client, image and outcome."""

from __future__ import annotations

from typing import Literal

from mirror.admin.messages import ErrorsOrder, RecentRequests
from mirror.console.pages.head import head_of
from mirror.console.parts import ConsoleParts
from mirror.console.problem import Problem
from mirror.console.reply import ConsoleReply
from mirror.console.request import ConsoleRequest

_SECTION = "/requests"
Outcome = Literal["error", "refused", "stale", "miss", "revalidated", "any"]
_OUTCOMES: tuple[tuple[Outcome | Literal[""], str], ...] = (
    ("", "errors, refusals and stale answers"),
    ("error", "errors"),
    ("refused", "refusals"),
    ("stale", "stale answers"),
    ("miss", "fetched from upstream"),
    ("revalidated", "confirmed by upstream"),
    ("any", "all"),
)
_LONGEST = 512  # characters of a filter


async def requests(parts: ConsoleParts, request: ConsoleRequest) -> ConsoleReply:
    """Answer with the requests that the filter lets through; raises Problem."""
    request.viewer.need_names()
    order = _order(request)
    found = await parts.orders.ask(order, RecentRequests)
    page = parts.templates.render(
        "requests.html",
        head=head_of(parts.mirror, request, _SECTION),
        requests=found.requests,
        filter=order,
        outcomes=_OUTCOMES,
    )
    return ConsoleReply.html(page)


def _order(request: ConsoleRequest) -> ErrorsOrder:
    fields = {name: request.query.get(name, "").strip() for name in ("client", "image", "outcome")}
    if any(len(value) > _LONGEST for value in fields.values()):
        raise Problem(400, f"expected filters of at most {_LONGEST} characters")
    outcome = next((each for each, _ in _OUTCOMES if each == fields["outcome"]), None)
    if outcome is None:
        allowed = ", ".join(each for each, _ in _OUTCOMES if each)
        raise Problem(400, f"expected an outcome of {allowed}")
    return ErrorsOrder(
        client=fields["client"] or None,
        image=fields["image"] or None,
        outcome=outcome or None,
    )
