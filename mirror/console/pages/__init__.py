"""The pages, by the first part of their path: one module for each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from mirror.console.events import EventStream
from mirror.console.pages.home import home
from mirror.console.parts import ConsoleParts
from mirror.console.problem import Problem
from mirror.console.reply import ConsoleReply
from mirror.console.request import ConsoleRequest

# Takes the parts and a request; raises Problem. A POST comes from an operator, by an own page.
Page: TypeAlias = Callable[[ConsoleParts, ConsoleRequest], Awaitable[ConsoleReply | EventStream]]

# By the first part of the path: empty, images, requests, setup, events, static.
PAGES: Mapping[str, Page] = MappingProxyType({"": home})


def problem_page(problem: Problem) -> ConsoleReply:
    """Return the page of an error."""
    return ConsoleReply(
        f"{problem.status} {problem.title}: {problem.detail}\n".encode("utf-8", "backslashreplace"),
        "text/plain; charset=utf-8",
        problem.status,
        headers=problem.headers,
    )
