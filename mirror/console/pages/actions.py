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
from mirror.console.render.numbers import size
from mirror.console.render.templates import image_path
from mirror.console.reply import ConsoleReply
from mirror.console.request import ConsoleRequest
from mirror.util.units import counted


@dataclass(frozen=True, slots=True)
class Action:
    """An action, by the `word` on its button. `order` carries it out, `left` is the page after it.

    `foretold` says beforehand what will happen, after the lines that `reckon` finds out, if there
    is any to find out; `done` is the note on the page afterwards.
    """

    word: str
    foretold: tuple[str, ...]
    done: str
    order: Callable[[str], Work]
    result: type[Pinned | Purged | Refreshed]
    reckon: Callable[[ConsoleParts, str], Awaitable[list[str]]] | None = None
    left: Callable[[str], str] = image_path
    danger: bool = False


async def confirm(
    parts: ConsoleParts, request: ConsoleRequest, target: str, action: str
) -> ConsoleReply:
    """Answer with the page that asks whether to carry out an action; raises Problem."""
    chosen = ACTIONS[action]
    request.viewer.need_act(f"mirror {action} {target}")
    reckoned = await chosen.reckon(parts, target) if chosen.reckon is not None else []
    page = parts.templates.render(
        "confirm.html",
        head=head_of(parts.mirror, request, "/images"),
        question=f"{chosen.word} {target}?",
        lines=[*reckoned, *chosen.foretold],
        action=f"{image_path(target)}/{action}",
        back=image_path(target),
        button=f"{chosen.word} it",
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


async def _removed(parts: ConsoleParts, target: str) -> list[str]:
    would = await parts.orders.ask(PurgeOrder(target, dry=True), Purged)
    tags, files = counted(would.tags, "tag"), counted(would.files, "file")
    lines = [f"Removed: {tags} and {files}, {size(would.freed)}."]
    if would.shared:
        lines.append(f"Kept: {counted(would.shared, 'file')} that other images need.")
    return lines


ACTIONS: Mapping[str, Action] = MappingProxyType(
    {
        "refresh": Action(
            "Refresh",
            (
                "Upstream is asked now which manifest the tag has.",
                "A changed manifest is fetched, which counts as a pull; an unchanged one is free.",
            ),
            "Upstream was asked: this is the tag's manifest now.",
            lambda target: RefreshOrder((target,)),
            Refreshed,
        ),
        "pin": Action(
            "Pin",
            (
                "The image is not removed for lack of space, and its tag is checked regularly.",
                "Its bytes count towards max_size, and leave less room for other images.",
            ),
            "Pinned: it is not removed for lack of space.",
            lambda target: PinOrder((target,)),
            Pinned,
        ),
        "unpin": Action(
            "Unpin",
            ("The image stays stored until its space is needed, as other images do.",),
            "No longer pinned.",
            lambda target: UnpinOrder((target,)),
            Pinned,
        ),
        "purge": Action(
            "Purge",
            ("The next pull fetches the image from upstream again, and counts as a pull.",),
            "Purged.",
            PurgeOrder,
            Purged,
            reckon=_removed,
            left=lambda _: "/images",
            danger=True,
        ),
    }
)
# The notes on a page after an action.
DONE: Mapping[str, str] = MappingProxyType({name: each.done for name, each in ACTIONS.items()})
