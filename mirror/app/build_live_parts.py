"""The parts that orders find in a running mirror only, built for the first order."""

from __future__ import annotations

from mirror.admin.absent_pins import AbsentPins
from mirror.admin.operations.parts import LiveParts
from mirror.admin.operations.warm_pulls import WarmPulls
from mirror.admin.operations.warm_room import Claims
from mirror.admin.schedule_reports import ScheduleReports
from mirror.app.content import ContentParts
from mirror.app.core import Core
from mirror.app.upstreams import Upstreams
from mirror.app.web_server import Connections
from mirror.util.fair_semaphore import FairSemaphore


def build_live_parts(
    core: Core,
    upstreams: Upstreams,
    content: ContentParts,
    connections: Connections,
    absent_pins: AbsentPins,
    schedules: ScheduleReports,
) -> LiveParts:
    """Return the parts."""
    certificate = connections.certificate
    return LiveParts(
        fetches=content.fetches,
        registries=upstreams.registries,
        connections=lambda: len(connections.of_clients),
        certificate_end=lambda: certificate.end if certificate is not None else None,
        access=content.access,
        manifests=content.manifests,
        blobs=content.blobs,
        warm_figures=content.warm_figures,
        warm_places=FairSemaphore(1),
        warm_pulls=WarmPulls(core.budget),
        warm_claims=Claims(),
        absent_pins=absent_pins,
        schedules=schedules,
    )
