"""The console: checks each request, finds its page or endpoint, and answers errors as such."""

from __future__ import annotations

import logging
from http import HTTPStatus

from aiohttp import web

from mirror.console.api.api import Api
from mirror.console.archive_stream import ArchiveStream
from mirror.console.events import EventStream
from mirror.console.metrics import Activity
from mirror.console.origin import SAFE, OwnHosts, check_origin
from mirror.console.pages import PAGES
from mirror.console.pages.problems import problem_page
from mirror.console.parts import ConsoleParts
from mirror.console.problem import Problem, login_needed, wrong_method
from mirror.console.reply import ConsoleReply, rendered
from mirror.console.request import ConsoleRequest, last_values, read_form, read_query
from mirror.console.stream import RecordStream
from mirror.console.viewers import VIEWER, Viewer, Viewers
from mirror.oci.errors import RegistryError, shown
from mirror.web.reply import Reply
from mirror.web.router import ConsolePath

_log = logging.getLogger(__name__)

_API = "/api/v1/"
_METHODS = (*SAFE, "POST")  # of pages


class Console:
    """Answers for the page and the API.

    `hosts`, `viewers` and `client_files` are changed by a reload.
    """

    def __init__(self, parts: ConsoleParts, viewers: Viewers, hosts: OwnHosts) -> None:
        self.viewers = viewers
        self.hosts = hosts
        self.client_files = parts.client_files
        self._parts = parts
        self._api = Api(parts)

    def __repr__(self) -> str:
        return f"<Console: {self._parts.streams!r}, {self._parts.orders!r}>"

    @property
    def activity(self) -> Activity:
        """The figures for the metrics."""
        return Activity(len(self._parts.streams), self._parts.orders.actions)

    async def stop(self) -> None:
        """Begin no action any more, and end the streams, before running answers are waited for."""
        self._parts.orders.stop()
        await self._parts.streams.stop()

    def renew_streams(self) -> None:
        """End the streams of events, after a reload: their viewers may have other rights."""
        self._parts.streams.renew()

    async def close(self) -> None:
        """Stop running questions."""
        await self._parts.orders.close()

    async def answer(self, request: web.BaseRequest, path: ConsolePath) -> Reply:
        """Answer a request of any method; errors are answers, too."""
        try:
            found = await self._found(request, path)
            if isinstance(found, EventStream):
                return self._parts.streams.reply(found)
            if isinstance(found, RecordStream | ArchiveStream):
                return found.reply()
            return await rendered(found, request)
        except Problem as problem:
            return await self._refusal(request, path, problem)
        except RegistryError as error:
            refused = Problem(error.status, error.message, error.headers())
            return await self._refusal(request, path, refused)
        except ConnectionError:  # the client has left
            raise
        except Exception:  # noqa: BLE001 - the last resort, and it is logged
            _log.exception("unexpected failure of a request: %s", shown(request.raw_path))
            failure = Problem(500, "the mirror failed; its log has the reason")
            return await self._refusal(request, path, failure)

    async def _found(
        self, request: web.BaseRequest, path: ConsolePath
    ) -> ConsoleReply | EventStream | RecordStream | ArchiveStream:
        host = self._checked(request)
        viewer = await self.viewers.recognise(request)
        if path.path.startswith(_API):
            return await self._api.answer(request, path, viewer)
        if request.method not in _METHODS:
            raise wrong_method(request.method, *_METHODS)
        return await self._page(request, path, viewer, host)

    def _checked(self, request: web.BaseRequest) -> str:
        """Return the host of a request of the console's own pages, or of no page; raises Problem.

        Other requests count in the rate of their client, too.
        """
        try:
            host = self.hosts.check(request)
            check_origin(request, host)
        except Problem:
            self.viewers.count(request)
            raise
        return host

    async def _page(
        self, request: web.BaseRequest, path: ConsolePath, viewer: Viewer, host: str
    ) -> ConsoleReply | EventStream:
        first = path.path.split("/", 2)[1]
        if first == "login":
            return _login(viewer, path.query)
        page = PAGES.get(first)
        if page is None or not _is_text(path.path):
            raise Problem(HTTPStatus.NOT_FOUND, f"there is no page at {shown(path.path)}")
        form: dict[str, str] = {}
        if request.method not in SAFE:
            viewer.need_act("mirror --help")
            form = await read_form(request)
        asked = ConsoleRequest(
            method=request.method,
            path=path.path,
            query=last_values(read_query(path.query)),
            form=form,
            viewer=viewer,
            host=host,
            scheme="https" if request.secure else "http",
            raw=request,
        )
        return await page(self._parts, asked)

    async def _refusal(
        self, request: web.BaseRequest, path: ConsolePath, problem: Problem
    ) -> Reply:
        is_api = path.path.startswith("/api")
        if is_api:
            reply = problem.reply()
        else:
            reply = problem_page(self._parts, problem, request.get(VIEWER))
        return await rendered(reply, request, cause=problem.detail)


def _is_text(path: str) -> bool:
    """Whether a path is UTF-8: bytes that are not come as lone surrogates."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _login(viewer: Viewer, query: str) -> ConsoleReply:
    """Ask for a login, and go on to a page: browsers send a login only where one is asked."""
    if viewer.name is None:
        raise login_needed("this mirror knows operators by their logins")
    target = last_values(read_query(query)).get("to", "/")
    is_own = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isascii()
    return ConsoleReply.see_other(target if is_own and target.isprintable() else "/")
