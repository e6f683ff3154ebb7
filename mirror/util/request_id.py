"""The id of a request: its client's, if that is sane, or a new one; known to all work for it."""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from itertools import count

HEADER = "X-Request-Id"
# Tasks that a request starts inherit its id; the mirror's own tasks have none.
REQUEST: ContextVar[str] = ContextVar("request", default="")
# Characters without a special meaning in headers, log lines and shells.
_SANE = re.compile(r"[A-Za-z0-9._~:+/@-]{1,128}")


class RequestIds:
    """Gives each request its id. New ids have the same beginning, for the life of the daemon."""

    def __init__(self) -> None:
        self._begin = secrets.token_hex(6)
        self._numbers = count(1)

    def __repr__(self) -> str:
        return f"<RequestIds that begin with {self._begin}>"

    def take(self, client_id: str | None) -> str:
        """Return the client's id, or a new one if the client sent none that is sane."""
        sane = client_id is not None and _SANE.fullmatch(client_id)
        found = client_id if client_id is not None and sane else self.new()
        REQUEST.set(found)
        return found

    def new(self) -> str:
        """Return a new id, for a request that starts no other work."""
        return f"{self._begin}-{next(self._numbers):x}"
