"""A request to an upstream, before it is sent."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import aiohttp
from aiohttp import hdrs
from yarl import URL

from mirror.upstream import responses
from mirror.upstream.telemetry import Kind, Observer
from mirror.upstream.transport import Size

HEAD_SHARE = 1 / 3  # of the time for a response: after a HEAD that hangs, a GET is still in time


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """A request to a registry, without its login.

    `repository` is a name without its upstream. `observe` is told of each response: the request is
    sent again with a login, or as a retry.
    """

    method: str
    kind: Kind
    repository: str
    url: URL
    headers: dict[str, str] = field(default_factory=dict)
    size: Size = "small"
    observe: Observer | None = None
    most: float = math.inf  # seconds to wait for the response, if less than usual

    @property
    def ranged(self) -> bool:
        """Whether this is a range request."""
        return hdrs.RANGE in self.headers

    @property
    def plain(self) -> bool:
        """Whether this is a whole GET for content, as a client without a mirror sends it."""
        return self.kind in ("manifest", "blob") and self.method == "GET" and not self.ranged

    @property
    def topic(self) -> str:
        """The kind of request for failure counts; ranges count apart from whole bodies."""
        return f"part of a {self.kind}" if self.ranged else self.kind

    def is_elsewhere(self, response: aiohttp.ClientResponse) -> bool:
        """Whether the response comes from another host, to which the registry redirected."""
        return response.url.origin() != self.url.origin()

    def is_content(self, response: aiohttp.ClientResponse) -> bool:
        """Whether the response is a success with headers that fit the requested content."""
        granted = 200 <= response.status < 300
        return granted and responses.is_content(response, self.kind, self.url.name)
