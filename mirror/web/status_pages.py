"""Status pages of the mirror: liveness, readiness, and metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from mirror.oci.errors import PathUnknown
from mirror.web import response_headers
from mirror.web.error_reply import refusal
from mirror.web.observability.metrics import CONTENT_TYPE, Metrics
from mirror.web.reply import Reply

_TEXT = "text/plain; charset=utf-8"


class StatusPages:
    """Answers `/healthz`, `/readyz` and `/metrics`, the last unless it is served `apart`.

    `trouble` returns the reason why the mirror cannot serve, if there is one. An upstream that
    fails is not a reason: the cache serves without it.
    """

    def __init__(
        self,
        metrics: Metrics,
        trouble: Callable[[], Awaitable[str | None]],
        *,
        apart: bool = False,
    ) -> None:
        self._metrics = metrics
        self._trouble = trouble
        self._apart = apart

    async def get(self, name: str) -> Reply:
        """Answer with a page."""
        if name != "metrics":
            return await self._health(name)
        if self._apart:
            raise PathUnknown("/metrics is not served here")
        return self._counts()

    async def watch(self, request: web.BaseRequest) -> Reply:
        """Answer a request to the separate address for monitoring."""
        name = request.raw_path.partition("?")[0].removeprefix("/")
        if request.method not in ("GET", "HEAD") or name not in ("healthz", "readyz", "metrics"):
            return refusal(PathUnknown("only /metrics, /healthz and /readyz are served here"))
        return self._counts() if name == "metrics" else await self._health(name)

    def _counts(self) -> Reply:
        return _page(200, CONTENT_TYPE, self._metrics.render())

    async def _health(self, name: str) -> Reply:
        trouble = await self._trouble() if name == "readyz" else None
        if trouble:
            return _page(503, _TEXT, f"{trouble}\n".encode())
        return _page(200, _TEXT, b"ok\n")


def _page(status: int, content_type: str, body: bytes) -> Reply:
    return Reply(status, response_headers.own(content_type), length=len(body), body=body)
