"""The keys under which a request carries its id, its trace, its route, its client and its reply."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from mirror.identity.client import ClientIdentity
from mirror.web.router import Route

if TYPE_CHECKING:  # a reply reads these keys
    from mirror.web.reply import Reply

REQUEST_ID = web.RequestKey("request_id", str)
TRACEPARENT = web.RequestKey("traceparent", str)  # "" unless its client sent a valid one
ROUTE: web.RequestKey[Route] = web.RequestKey("route")  # unless its path is not served
IDENTITY = web.RequestKey("identity", ClientIdentity)  # once it is authenticated, or anonymous
BEING_SENT: web.RequestKey[Reply] = web.RequestKey("being_sent")  # once its head is written
