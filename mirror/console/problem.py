"""Problems: errors of the page and the API, as documents (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType

from mirror.console.reply import ConsoleReply

TYPE = "application/problem+json"


class Problem(Exception):
    """An error with its HTTP status; `detail` names the fault and the allowed values.

    A `bare` one refuses a request before its sender is known. Floods consist of such requests, so
    it is a line of text and not a page, which would also name the mirror.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        headers: Mapping[str, str] = MappingProxyType({}),
        *,
        bare: bool = False,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers
        self.bare = bare

    @property
    def title(self) -> str:
        """The phrase of the status."""
        return HTTPStatus(self.status).phrase

    def reply(self) -> ConsoleReply:
        """Return the document."""
        document = {"title": self.title, "status": self.status, "detail": self.detail}
        body = json.dumps(document).encode() + b"\n"
        return ConsoleReply(body, TYPE, self.status, headers=self.headers)


def login_needed(detail: str) -> Problem:
    """Return the problem of a missing or wrong login, with a challenge (RFC 7617, 2)."""
    challenge = {"WWW-Authenticate": 'Basic realm="mirror", charset="UTF-8"'}
    return Problem(HTTPStatus.UNAUTHORIZED, detail, challenge)


def wrong_method(method: str, *allowed: str, hint: str = "") -> Problem:
    """Return the problem of a method that a path does not have."""
    allow = ", ".join(allowed)
    detail = f"{method} is not supported here: {allow} are{hint}"
    return Problem(HTTPStatus.METHOD_NOT_ALLOWED, detail, {"Allow": allow})


def busy(detail: str, retry_after: int) -> Problem:
    """Return the problem of too much work at the same time; `retry_after` in seconds."""
    headers = {"Retry-After": str(retry_after)}
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers)
