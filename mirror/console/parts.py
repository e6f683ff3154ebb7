"""The parts that pages and the API work with."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.console.events import EventStreams
from mirror.console.orders import Orders


@dataclass(frozen=True, slots=True)
class ConsoleParts:
    """The orders, and the open streams of events."""

    orders: Orders
    streams: EventStreams
