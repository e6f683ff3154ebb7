"""The page of an error."""

from __future__ import annotations

import time

from mirror.console.pages.head import Head
from mirror.console.parts import ConsoleParts
from mirror.console.problem import Problem
from mirror.console.reply import HTML, TEXT, ConsoleReply


def problem_page(parts: ConsoleParts, problem: Problem) -> ConsoleReply:
    """Return the page of an error."""
    title = f"{problem.status} {problem.title}"
    if problem.bare:
        return _reply(problem, f"{title}: {problem.detail}\n", TEXT)
    text = parts.templates.render(
        "message.html", head=_head(parts), title=title, lines=[problem.detail]
    )
    return _reply(problem, text, HTML)


def _reply(problem: Problem, text: str, media_type: str) -> ConsoleReply:
    body = text.encode("utf-8", "backslashreplace")
    return ConsoleReply(body, media_type, problem.status, headers=problem.headers)


def _head(parts: ConsoleParts) -> Head:
    now, mirror = time.time(), parts.mirror
    return Head(
        host=mirror.host,
        version=mirror.version,
        uptime=max(0.0, now - mirror.started),
        now=now,
        section="",
        here="/",
        events="",
        viewer="",
        names=False,
    )
