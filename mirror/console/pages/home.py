"""The overview, at `/`."""

from __future__ import annotations

from mirror.console.parts import ConsoleParts
from mirror.console.reply import ConsoleReply
from mirror.console.request import ConsoleRequest


async def home(parts: ConsoleParts, request: ConsoleRequest) -> ConsoleReply:  # noqa: ARG001 - as all pages
    """Answer with a placeholder."""
    return ConsoleReply.text("a mirror of container registries: see /api/v1/status\n")
