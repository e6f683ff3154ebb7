"""The page of an error."""

from __future__ import annotations

import time

from mirror.console.pages.head import Head, login_of
from mirror.console.parts import ConsoleParts
from mirror.console.problem import Problem
from mirror.console.reply import HTML, TEXT, ConsoleReply
from mirror.console.viewers import Viewer


def problem_page(parts: ConsoleParts, problem: Problem, viewer: Viewer | None) -> ConsoleReply:
    """Return the page of an error, for a viewer that may not be recognised."""
    title = f"{problem.status} {problem.title}"
    if problem.bare:
        return _reply(problem, f"{title}: {problem.detail}\n", TEXT)
    text = parts.templates.render(
        "message.html", head=_head(parts, viewer), title=title, lines=[problem.detail]
    )
    return _reply(problem, text, HTML)


def _reply(problem: Problem, text: str, media_type: str) -> ConsoleReply:
    body = text.encode("utf-8", "backslashreplace")
    return ConsoleReply(body, media_type, problem.status, headers=problem.headers)


def _head(parts: ConsoleParts, viewer: Viewer | None) -> Head:
    now, mirror = time.time(), parts.mirror
    return Head(
        host=mirror.host,
        version=mirror.version,
        uptime=max(0.0, now - mirror.started),
        now=now,
        section="",
        here="/",
        events="",
        viewer=login_of(viewer),
        names=viewer is not None and viewer.sees_names,
    )
