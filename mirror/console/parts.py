"""The parts that pages and the API work with."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from mirror.budget.summary import Budgets
from mirror.console.client_files import ClientFiles
from mirror.console.events import Channels, EventStreams
from mirror.console.kept import Kept
from mirror.console.orders import Orders
from mirror.console.render.templates import Templates


@dataclass(frozen=True, slots=True)
class RunningMirror:
    """The running mirror: its host's name, its version, and its start in epoch seconds."""

    host: str
    version: str
    started: float


@dataclass(frozen=True, slots=True)
class Drawn:
    """The overview as text: its title and its parts."""

    title: str
    parts: tuple[Markup, ...]


@dataclass(frozen=True, slots=True)
class ConsoleParts:
    """The mirror, the orders, the templates, and what several viewers share."""

    mirror: RunningMirror
    orders: Orders
    templates: Templates
    client_files: ClientFiles
    budgets: Kept[Budgets]
    drawn: Kept[Drawn]
    streams: EventStreams
    channels: Channels
