"""All parts of a mirror, built one upon the other from the settings."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from mirror.admin.absent_pins import AbsentPins
from mirror.admin.schedule_reports import ScheduleReports
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
from mirror.util.deferred import Deferred

if TYPE_CHECKING:
    from mirror.admin.operations.parts import LiveParts
    from mirror.admin.pin_keeper import PinKeeper
    from mirror.app.scheduled_runs import ScheduledRuns


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
    absent_pins = AbsentPins(core.clocks.timer)
    schedules = ScheduleReports(core.clocks.wall)

    def live() -> LiveParts:
        from mirror.app.build_live_parts import build_live_parts

        return build_live_parts(core, upstreams, content, connections, absent_pins, schedules)

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
        scheduler=Scheduler(
            defer_runs(service, schedules),
            schedules=settings.schedules,
            reports=schedules,
            clock=core.clocks.wall,
        ),
        absent_pins=absent_pins,
    )


def defer_runs(service: AdminService, reports: ScheduleReports) -> Deferred[ScheduledRuns]:
    """Return the runs of schedules, for a mirror that may have none."""

    def make() -> ScheduledRuns:
        from mirror.app.scheduled_runs import ScheduledRuns

        return ScheduledRuns(service, reports)

    return Deferred(make)


async def keep_pins(parts: Parts) -> None:
    """Keep pinned tags as upstream has them, for ever; the first pin loads the keeper."""
    await parts.core.store.pins.any.wait()
    keeper = await Deferred(partial(_build_pin_keeper, parts)).get()
    await keeper.run()


def _build_pin_keeper(parts: Parts) -> PinKeeper:
    from mirror.app.build_pin_keeper import build_pin_keeper

    return build_pin_keeper(parts)
