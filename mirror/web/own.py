"""The mirror's own pages: is it alive, is it ready, what does it count."""

from __future__ import annotations

from collections.abc import Callable

from mirror.oci import media
from mirror.web import fields
from mirror.web.metrics import CONTENT_TYPE, Metrics
from mirror.web.reply import Reply

_TEXT = "text/plain; charset=utf-8"


class OwnPages:
    """Answers `/v2/`, `/healthz`, `/readyz` and `/metrics`.

    `troubles` tells what keeps the mirror from serving; upstream's state does not: the cache
    serves without it.
    """

    def __init__(self, metrics: Metrics, troubles: Callable[[], list[str]]) -> None:
        self._metrics = metrics
        self._troubles = troubles

    def get(self, name: str, namespace: str = "") -> Reply:
        """Answer one of them; `namespace` is what `/v2/` was asked for, if it was."""
        if name == "v2":
            headers = fields.own(media.JSON) + fields.namespace(namespace)
            return Reply(200, headers, length=2, body=b"{}")
        if name == "metrics":
            return _page(200, CONTENT_TYPE, self._metrics.render())
        troubles = self._troubles() if name == "readyz" else []
        if troubles:
            return _page(503, _TEXT, "\n".join([*troubles, ""]).encode())
        return _page(200, _TEXT, b"ok\n")


def _page(status: int, content_type: str, body: bytes) -> Reply:
    return Reply(status, fields.own(content_type), length=len(body), body=body)
