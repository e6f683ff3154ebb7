"""All parts of a mirror, built one upon the other from the settings."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass

from mirror.admin.service import AdminService
from mirror.app.content import Content, build_content
from mirror.app.core import Clocks, Core, build_admin_service, open_core
from mirror.app.upstream_plans import UpstreamPlans
from mirror.app.upstreams import Upstreams, open_upstreams
from mirror.app.web_server import (
    Connections,
    Observers,
    WebServer,
    build_web_server,
    export_figures,
)
from mirror.budget.limit_poller import LimitPoller
from mirror.settings import Settings


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a mirror; a reload changes them as the settings say."""

    core: Core
    upstreams: Upstreams
    content: Content
    web_server: WebServer
    service: AdminService
    limit_poller: LimitPoller


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
    stack.callback(core.demand.tick)  # the last requests are noted, too
    upstreams = await open_upstreams(stack, core, plans, observers.metrics.answer)
    content = await build_content(stack, settings, core, upstreams)
    service = build_admin_service(core)
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
    )
