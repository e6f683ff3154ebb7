"""The API: finds the endpoint of a request, and answers with its record."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web

from mirror.console.parts import ConsoleParts
from mirror.console.problem import Problem
from mirror.console.reply import ConsoleReply
from mirror.console.viewers import Viewer
from mirror.oci.errors import shown
from mirror.web.router import ConsolePath


class Api:
    """Answers requests below `/api/v1`."""

    def __init__(self, parts: ConsoleParts) -> None:
        self._parts = parts

    async def answer(
        self,
        request: web.BaseRequest,  # noqa: ARG002
        path: ConsolePath,
        viewer: Viewer,  # noqa: ARG002
    ) -> ConsoleReply:
        """Answer a request; raises Problem."""
        raise Problem(HTTPStatus.NOT_FOUND, f"the API has no path {shown(path.path)}")
