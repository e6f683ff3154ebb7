"""The seam to the console: the page and its API, which have separate rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from mirror.web.reply import Reply
from mirror.web.router import ConsolePath
from mirror.web.status_pages import StatusPages


class Console(Protocol):
    """Answers requests for the page and its API, after all checks."""

    async def answer(self, request: web.BaseRequest, path: ConsolePath) -> Reply:
        """Answer a request of any method; errors are answers, too."""


@dataclass(frozen=True, slots=True)
class OwnPages:
    """The mirror's own pages; `console` is None if it has a separate address."""

    status: StatusPages
    console: Console | None


class EventReply(Reply):
    """A reply that lasts as long as its reader looks on: no transfer, and closed to make room."""
