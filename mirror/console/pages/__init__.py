"""The pages, by the first part of their path: one module for each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from mirror.console.events import EventStream
from mirror.console.pages.home import events, home
from mirror.console.pages.images import images
from mirror.console.pages.requests import requests
from mirror.console.pages.setup import setup
from mirror.console.pages.static import static
from mirror.console.parts import ConsoleParts
from mirror.console.reply import ConsoleReply
from mirror.console.request import ConsoleRequest

# Takes the parts and a request; raises Problem. A POST comes from an operator, by an own page.
Page: TypeAlias = Callable[[ConsoleParts, ConsoleRequest], Awaitable[ConsoleReply | EventStream]]

# By the first part of the path, which is empty for the overview.
PAGES: Mapping[str, Page] = MappingProxyType(
    {
        "": home,
        "events": events,
        "images": images,
        "requests": requests,
        "setup": setup,
        "static": static,
    }
)
