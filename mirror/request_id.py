"""The id of a request: its client's own where that is sane, else made; known to all done for it."""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from itertools import count

HEADER = "X-Request-Id"
# What a request starts has its request's; the mirror's own errands have none.
REQUEST: ContextVar[str] = ContextVar("request", default="")
# Characters that mean the same in a header, in a log line and in a shell.
_SANE = re.compile(r"[A-Za-z0-9._~:+/@-]{1,128}")


class RequestIds:
    """Gives each request its id. Those that are made begin alike, for as long as a daemon runs."""

    def __init__(self) -> None:
        self._begin = secrets.token_hex(6)
        self._numbers = count(1)

    def __repr__(self) -> str:
        return f"<RequestIds that begin with {self._begin}>"

    def take(self, told: str | None) -> str:
        """Return the id that a client told, or a new one where it told none that is sane."""
        if told is not None and _SANE.fullmatch(told):
            found = told
        else:
            found = f"{self._begin}-{next(self._numbers):x}"
        REQUEST.set(found)
        return found
