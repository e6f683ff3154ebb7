"""The files that pages load, at `/static`."""

from __future__ import annotations

from mirror.console.parts import ConsoleParts
from mirror.console.problem import Problem
from mirror.console.reply import IMMUTABLE, ConsoleReply
from mirror.console.request import ConsoleRequest

_FOLDER = "/static/"


async def static(parts: ConsoleParts, request: ConsoleRequest) -> ConsoleReply:
    """Answer with a file; raises Problem. Its address has a hash, so browsers keep it for good."""
    file = parts.templates.files.get(request.path.removeprefix(_FOLDER))
    if file is None:
        raise Problem(404, "there is no such file")
    return ConsoleReply(file.body, file.media_type, cache=IMMUTABLE)
