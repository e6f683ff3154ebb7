"""The observers of requests: each is told of every reply, once, after its last byte."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.web.observability.access_log import AccessLog
from mirror.web.observability.request_figures import RequestFigures
from mirror.web.observability.request_metrics import RequestMetrics


@dataclass(frozen=True, slots=True)
class RequestObservers:
    """The access log, the metrics, and the statistics."""

    log: AccessLog
    metrics: RequestMetrics
    figures: RequestFigures
