"""All parts of a mirror, built one upon the other from the settings."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass

from mirror.admin.absent_pins import AbsentPins
from mirror.admin.operations.parts import LiveParts
from mirror.admin.operations.warm_pulls import WarmPulls
from mirror.admin.operations.warm_room import Claims
from mirror.admin.pin_keeper import PinKeeper
from mirror.admin.pin_renewal import PinRenewal
from mirror.admin.service import AdminService
from mirror.app.content import ContentParts, build_content
from mirror.app.core import Clocks, Core, build_admin_service, open_core
from mirror.app.schedules import Scheduler
from mirror.app.upstream_plans import UpstreamPlans
from mirror.app.upstreams import Upstreams, open_upstreams
from mirror.app.web_server import (
    Connections,
    Observers,
    WebServer,
    build_readings,
    build_web_server,
    export_figures,
)
from mirror.budget.limit_poller import LimitPoller
from mirror.settings import Settings
from mirror.upstream.telemetry import UpstreamResponse
from mirror.util.fair_semaphore import FairSemaphore


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a mirror; a reload changes them as the settings say."""

    core: Core
    upstreams: Upstreams
    content: ContentParts
    web_server: WebServer
    service: AdminService
    limit_poller: LimitPoller
    scheduler: Scheduler
    absent_pins: AbsentPins


async def build_parts(
    stack: AsyncExitStack,
    settings: Settings,
    *,
    plans: UpstreamPlans,
    connections: Connections,
    observers: Observers,
    clocks: Clocks | None,
) -> Parts:
    """Open the data folder, and build the parts upon it; nothing listens or runs yet.

    The parts are closed at the end of the stack. Raises ConfigurationError, and StoreError if the
    folder cannot be used.
    """
    folder = settings.data_dir.absolute()
    core = await stack.enter_async_context(open_core(settings, folder, clocks))
    await core.recorder.load()
    stack.callback(core.recorder.stop)
    stack.callback(core.demand.tick)  # the last requests are noted, too

    def observe(answer: UpstreamResponse) -> None:
        observers.metrics.answer(answer)
        core.recorder.answer(answer)

    upstreams = await open_upstreams(stack, core, plans, observe)
    content = await build_content(stack, settings, core, upstreams)
    live = build_live_parts(core, upstreams, content, connections)
    service = build_admin_service(core, live=live)
    web_server = build_web_server(
        stack,
        settings,
        core,
        content,
        service,
        connections=connections,
        observers=observers,
    )
    export_figures(core, upstreams, content, web_server, observers)
    core.recorder.read(build_readings(core, upstreams, web_server, observers))
    limit_poller = LimitPoller(
        sources=upstreams.registries, budget=core.budget, limit_check=settings.limit_check
    )
    return Parts(
        core=core,
        upstreams=upstreams,
        content=content,
        web_server=web_server,
        service=service,
        limit_poller=limit_poller,
        scheduler=Scheduler(service, schedules=settings.schedules, clock=core.clocks.wall),
        absent_pins=live.absent_pins,
    )


def build_live_parts(
    core: Core, upstreams: Upstreams, content: ContentParts, connections: Connections
) -> LiveParts:
    """Return the parts that orders find in a running mirror only."""
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
        absent_pins=AbsentPins(core.clocks.timer),
    )


def build_pin_keeper(parts: Parts) -> PinKeeper:
    """Return the keeper of pinned tags."""
    return PinKeeper(
        store=parts.core.store,
        manifests=parts.content.manifests,
        upstreams=parts.upstreams.registries,
        absent=parts.absent_pins,
        renewal=PinRenewal(parts.core.budget, parts.content.manifests, parts.service),
    )
