"""Actions on an image: each is confirmed on a page that says what will happen, then carried out.

The answer to an action is a redirect, so that to reload the page does not repeat it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import urlencode

from mirror.admin.messages import (
    Pinned,
    PinOrder,
    Purged,
    PurgeOrder,
    Refreshed,
    RefreshOrder,
    UnpinOrder,
    Work,
)
from mirror.console.pages.head import head_of
from mirror.console.parts import ConsoleParts
from mirror.console.render.numbers import count, size
from mirror.console.render.templates import image_path
from mirror.console.reply import ConsoleReply
from mirror.console.request import ConsoleRequest


@dataclass(frozen=True, slots=True)
class Action:
    """An action: the question before it, and the button that carries it out.

    `foretold` says what will happen, `order` carries it out, `left` is the page that follows.
    """

    question: str
    button: str
    danger: bool
    foretold: Callable[[ConsoleParts, str], Awaitable[list[str]]]
    order: Callable[[str], Work]
    result: type[Pinned | Purged | Refreshed]
    left: Callable[[str], str]


async def confirm(
    parts: ConsoleParts, request: ConsoleRequest, target: str, action: str
) -> ConsoleReply:
    """Answer with the page that asks whether to carry out an action; raises Problem."""
    chosen = ACTIONS[action]
    request.viewer.need_act(f"mirror {action} {target}")
    page = parts.templates.render(
        "confirm.html",
        head=head_of(parts.mirror, request, "/images"),
        question=chosen.question.format(target),
        lines=await chosen.foretold(parts, target),
        action=f"{image_path(target)}/{action}",
        back=image_path(target),
        button=chosen.button,
        danger=chosen.danger,
    )
    return ConsoleReply.html(page)


async def act(
    parts: ConsoleParts, request: ConsoleRequest, target: str, action: str
) -> ConsoleReply:
    """Carry out an action, and lead on to the page that shows its effect; raises Problem."""
    chosen = ACTIONS[action]
    await parts.orders.act(chosen.order(target), request.viewer, chosen.result)
    return ConsoleReply.see_other(f"{chosen.left(target)}?{urlencode({'done': action})}")


async def _purge(parts: ConsoleParts, target: str) -> list[str]:
    would = await parts.orders.ask(PurgeOrder(target, dry=True), Purged)
    lines = [
        f"{count(would.tags)} tags and {count(would.files)} files go, and free {size(would.freed)}."
    ]
    if would.shared:
        lines.append(f"{count(would.shared)} files stay: other images need them.")
    return [*lines, "The next pull fetches the image from upstream again, and counts as a pull."]


async def _refresh(parts: ConsoleParts, target: str) -> list[str]:  # noqa: ARG001 - as all
    return [
        "Upstream is asked now which manifest the tag has.",
        "A changed manifest is fetched, which counts as a pull; an unchanged one costs nothing.",
    ]


async def _pin(parts: ConsoleParts, target: str) -> list[str]:  # noqa: ARG001
    return [
        "The image is not removed for lack of space, and its tag is checked regularly.",
        "Its bytes count towards the bound of the disk, and leave less room for others.",
    ]


async def _unpin(parts: ConsoleParts, target: str) -> list[str]:  # noqa: ARG001
    return ["The image stays stored, and is removed as others are when space is needed."]


ACTIONS: Mapping[str, Action] = MappingProxyType(
    {
        "refresh": Action(
            "Refresh {}?",
            "Refresh it",
            danger=False,
            foretold=_refresh,
            order=lambda target: RefreshOrder((target,)),
            result=Refreshed,
            left=image_path,
        ),
        "pin": Action(
            "Pin {}?",
            "Pin it",
            danger=False,
            foretold=_pin,
            order=lambda target: PinOrder((target,)),
            result=Pinned,
            left=image_path,
        ),
        "unpin": Action(
            "Unpin {}?",
            "Unpin it",
            danger=False,
            foretold=_unpin,
            order=lambda target: UnpinOrder((target,)),
            result=Pinned,
            left=image_path,
        ),
        "purge": Action(
            "Purge {}?",
            "Purge it",
            danger=True,
            foretold=_purge,
            order=PurgeOrder,
            result=Purged,
            left=lambda _: "/images",
        ),
    }
)
# The notes on a page after an action.
DONE: Mapping[str, str] = MappingProxyType(
    {
        "refresh": "Upstream was asked: this is the tag's manifest now.",
        "pin": "Pinned: it is not removed for lack of space.",
        "unpin": "No longer pinned.",
        "purge": "Purged.",
    }
)
