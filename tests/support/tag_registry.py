"""Registries' ways to page a list of tags, and a client that follows Links as skopeo does."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

import aiohttp
from aiohttp import web
from yarl import URL

PATH = "/v2/org/app/tags/list"


@dataclass
class Lister:
    """A registry with these tags, `size` on a page (None: always all).

    A page begins behind the field `by` of the query: `last` a tag, any other field a token.
    `link` is a Link's form; `follows_n` is that a page is as long as the client wants. `asked` are
    the queries that came.
    """

    tags: list[str]
    size: int | None = 50
    by: str = "last"
    link: str = '<{path}?{query}>; rel="next"'
    follows_n: bool = True
    more: dict[str, str] = field(default_factory=dict)  # fields of a Link beside
    url: str = ""
    asked: list[str] = field(default_factory=list)

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Answer with a page."""
        self.asked.append(request.rel_url.raw_query_string)
        if request.path != PATH:
            return web.Response(status=404)
        start = self._start(request.query.get(self.by, ""))
        size = self.size
        if size is not None and self.follows_n:
            size = min(size, int(request.query.get("n", size)))
        page = self.tags[start : None if size is None else start + size]
        headers = {}
        if page and start + len(page) < len(self.tags):
            headers["Link"] = self._next(page[-1], request.query.get("n"))
        return web.json_response({"name": "org/app", "tags": page}, headers=headers)

    def _start(self, mark: str) -> int:
        if not mark or self.size is None:
            return 0
        tag = mark if self.by == "last" else base64.b64decode(mark).decode().strip("?")
        return self.tags.index(tag) + 1

    def _next(self, tag: str, count: str | None) -> str:
        mark = tag if self.by == "last" else base64.b64encode(f"??{tag}??".encode()).decode()
        fields = {**({"n": count} if count else {}), **self.more, self.by: mark}
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items())
        return self.link.format(path=PATH, query=query)


@asynccontextmanager
async def listing(lister: Lister) -> AsyncIterator[Lister]:
    """Let it serve on a free port of the loopback."""
    runner = web.ServerRunner(web.Server(lister.answer, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    lister.url = "http://{}:{}".format(*runner.addresses[0][:2])
    try:
        yield lister
    finally:
        await runner.cleanup()


async def follow(url: str, query: str = "") -> list[list[str]]:
    """Return the pages that a client sees which takes path and query of a Link, and no more."""
    pages: list[list[str]] = []
    path = f"{PATH}{'?' if query else ''}{query}"
    async with aiohttp.ClientSession() as session:
        while path:
            assert len(pages) < 100
            async with session.get(URL(url + path, encoded=True)) as response:
                assert response.status == 200, await response.text()
                pages.append(json.loads(await response.read())["tags"])
                target = response.headers.get("Link", "").partition(";")[0].strip("<>")
                parts = urlsplit(target)
                path = f"{parts.path}?{parts.query}" if target else ""
    return pages
