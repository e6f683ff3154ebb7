"""The page and the API, built at the first request: this module loads theirs."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

import mirror
from mirror.admin.service import AdminService
from mirror.app.build_clients import build_trusted_proxies, console_names
from mirror.console.client_files import ClientFiles
from mirror.console.console import Console
from mirror.console.events import Channels, EventStreams
from mirror.console.kept import Kept
from mirror.console.orders import Orders
from mirror.console.origin import OwnHosts
from mirror.console.parts import ConsoleParts, RunningMirror
from mirror.console.render.templates import Templates, load_templates
from mirror.console.viewers import Viewers
from mirror.settings import Settings
from mirror.web.auth.authenticator import Authenticator

_BUDGETS = 10.0  # seconds between two reports of the pull limits, each of which needs a query
_DRAWN = 0.5  # seconds between two drawings of the overview, which take milliseconds of the loop


@dataclass(frozen=True, slots=True)
class ConsoleBuilder:
    """Builds the console. Its templates are loaded with it: 0.1 s of work for a thread."""

    templates: Templates = field(default_factory=load_templates)

    def build(
        self,
        settings: Settings,
        authenticator: Authenticator,
        service: AdminService,
        *,
        started: float,
    ) -> Console:
        """Return the page and the API of a mirror that `started` then, to be closed."""
        viewers = Viewers(
            authenticator,
            operators=settings.operators,
            trusted_proxies=build_trusted_proxies(settings),
        )
        parts = ConsoleParts(
            mirror=RunningMirror(socket.gethostname(), mirror.__version__, started),
            orders=Orders(service),
            templates=self.templates,
            client_files=ClientFiles(settings),
            budgets=Kept(_BUDGETS),
            drawn=Kept(_DRAWN),
            streams=EventStreams(),
            channels=Channels(),
        )
        return Console(parts, viewers, OwnHosts(console_names(settings)))


def change_console(console: Console, settings: Settings) -> None:
    """Apply other settings to a console, after a reload."""
    console.hosts.change(console_names(settings))
    console.viewers.change(settings.operators)
    console.client_files.change(settings)
    console.renew_streams()
