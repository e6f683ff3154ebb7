"""Known requests: requests that were parsed before, found again by the bytes of their heads."""

from __future__ import annotations

from typing import NamedTuple

from aiohttp import HttpVersion11, hdrs, web
from cachetools import LRUCache

from mirror.web.observability.access_log import HitLine, Line
from mirror.web.router import BlobPath, ManifestPath

_ROOM = 8 * 1024 * 1024  # bytes: 3,500 heads of an engine; the least recently used leave first
_LONGEST = 2048  # bytes of a head
_AROUND, _TIMES = 1400, 3  # bytes of a request's objects, and copies of its head (measured)
# Headers of container engines that change no answer, except by the fields of a known request. All
# other headers are parsed each time: conditions, ranges, ids, traces, logins, and unknown ones.
_PLAIN = frozenset(
    {
        hdrs.HOST,
        hdrs.USER_AGENT,
        hdrs.ACCEPT,
        hdrs.ACCEPT_ENCODING,
        hdrs.CONNECTION,
        "Docker-Distribution-Api-Version",
    }
)
_NAMES = frozenset(name.lower() for name in _PLAIN)


class KnownRequest(NamedTuple):
    """A request without a body, conditions or credentials, as it was parsed.

    The `route` is that of one router, which a reload replaces. `host` is the Host header, `line`
    the record of the request that was parsed, `hit` the log line for others. Its head has `length`
    bytes.
    """

    length: int
    route: ManifestPath | BlobPath
    method: str
    host: str
    line: Line
    hit: HitLine


class KnownRequests:
    """Requests by the bytes of their heads, in about `room` bytes of memory."""

    def __init__(self, room: int = _ROOM) -> None:
        self._known: LRUCache[bytes, KnownRequest] = LRUCache(room, _memory)

    def __len__(self) -> int:
        return len(self._known)

    def __repr__(self) -> str:
        return f"<KnownRequests: {len(self)} in {self._known.currsize:.0f} bytes>"

    def clear(self) -> None:
        """Forget all requests."""
        self._known.clear()

    def get(self, head: bytes) -> KnownRequest | None:
        """Return a request by its bytes; it becomes the last used.

        Many bytes are no known head, and are not hashed.
        """
        return self._known.get(head) if len(head) <= _LONGEST else None

    def add(self, head: bytes, known: KnownRequest) -> None:
        """Add a request, or replace it; one with a long head is left out."""
        if len(head) <= _LONGEST:
            self._known[head] = known


def _memory(known: KnownRequest) -> int:
    return _AROUND + _TIMES * known.length


def is_plain(request: web.BaseRequest) -> bool:
    """Whether nothing but the bytes of its head, and the state of the mirror, decide the answer."""
    return (
        request.method in (hdrs.METH_GET, hdrs.METH_HEAD)
        and request.version == HttpVersion11
        and request.keep_alive
        and all(name.lower() in _NAMES for name in request.headers)
    )
