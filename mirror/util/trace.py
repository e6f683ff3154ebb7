"""The trace of a client's request (W3C Trace Context): its `traceparent`, known to all work for it.

The mirror records no spans. It passes the header on unchanged, as a component that takes no part in
a trace may, so that the client's and the registry's spans and the mirror's log belong together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextvars import ContextVar

HEADER = "traceparent"
# Tasks that a request starts inherit its trace; the mirror's own tasks have none.
TRACE: ContextVar[str] = ContextVar("trace", default="")
# Version, trace id, parent id and flags. Version ff is forbidden, and so are ids of zeros only.
_VALID = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def take(headers: Sequence[str]) -> str:
    """Return the `traceparent` of a request's headers of that name, "" if it is invalid.

    Several headers are invalid, and so is one of more than 55 characters: a later version may have
    them, but no client sends it, and the rest could be anything.
    """
    if len(headers) != 1 or not _VALID.fullmatch(headers[0]):
        return ""
    TRACE.set(headers[0])
    return headers[0]
