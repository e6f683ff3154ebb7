"""The stored images at `/images`, a page at a time, and each image's own page below it."""

from __future__ import annotations

from urllib.parse import urlencode

from mirror.admin.messages import LsOrder, ShownImage, ShowOrder, StoredImages
from mirror.admin.messages.ls import Sort
from mirror.console.origin import SAFE
from mirror.console.pages.actions import ACTIONS, DONE, act, confirm
from mirror.console.pages.head import head_of
from mirror.console.parts import ConsoleParts
from mirror.console.problem import Problem, wrong_method
from mirror.console.reply import ConsoleReply
from mirror.console.request import ConsoleRequest

_SECTION = "/images"
_SORTS: tuple[Sort, ...] = ("name", "bytes", "used")
_LIMIT = 100
_LONGEST = 512  # characters of a pattern or a name


async def images(parts: ConsoleParts, request: ConsoleRequest) -> ConsoleReply:
    """Answer with the list, with one image, or with an action on it; raises Problem."""
    request.viewer.need_names()
    name = request.path.removeprefix(_SECTION).strip("/")
    if not name:
        return await _list(parts, request)
    target, _, action = name.rpartition("/")
    if request.method == "POST" and not (action in ACTIONS and target):
        raise wrong_method(request.method, *SAFE)
    if action in ACTIONS and target:
        run = act if request.method == "POST" else confirm
        return await run(parts, request, target, action)
    return await _image(parts, request, name)


async def _list(parts: ConsoleParts, request: ConsoleRequest) -> ConsoleReply:
    pattern = request.query.get("pattern", "").strip()
    sort = next((each for each in _SORTS if each == request.query.get("sort", "name")), None)
    if sort is None:
        raise Problem(400, f"expected a sort by {', '.join(_SORTS)}")
    if len(pattern) > _LONGEST:
        raise Problem(400, f"expected a pattern of at most {_LONGEST} characters")
    after = request.query.get("after") or None
    order = LsOrder(pattern=pattern or None, sort=sort, limit=_LIMIT, after=after)
    page = await parts.orders.ask(order, StoredImages)
    html = parts.templates.render(
        "images.html",
        head=head_of(parts.mirror, request, _SECTION),
        page=page,
        done=DONE.get(request.query.get("done", ""), ""),
        pattern=pattern,
        sort=sort,
        limit=_LIMIT,
        sort_links={each: _link(pattern, each) for each in _SORTS},
        next_link=_link(pattern, sort, page.after) if page.after else "",
    )
    return ConsoleReply.html(html)


def _link(pattern: str, sort: str, after: str = "") -> str:
    fields = {"pattern": pattern, "sort": sort, "after": after}
    return f"{_SECTION}?{urlencode({name: value for name, value in fields.items() if value})}"


async def _image(parts: ConsoleParts, request: ConsoleRequest, name: str) -> ConsoleReply:
    if len(name) > _LONGEST:
        raise Problem(404, f"an image's name has at most {_LONGEST} characters")
    image = await parts.orders.ask(ShowOrder(name), ShownImage)
    html = parts.templates.render(
        "image.html",
        head=head_of(parts.mirror, request, _SECTION),
        image=image,
        done=DONE.get(request.query.get("done", ""), ""),
        acts=request.viewer.acts,
    )
    return ConsoleReply.html(html)
