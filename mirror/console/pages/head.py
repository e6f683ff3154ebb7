"""The head of each page: the mirror, the time of the figures, and the viewer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from urllib.parse import urlencode

from mirror.console.parts import RunningMirror
from mirror.console.request import ConsoleRequest
from mirror.console.viewers import Viewer


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a page, for its templates. `now` in epoch seconds, `uptime` in seconds.

    `section` is the path of the page's entry in the navigation, `here` the page's own path, and
    `events` the path of its events, empty without any.
    """

    host: str
    version: str
    uptime: float
    now: float
    section: str
    here: str
    events: str
    viewer: str
    names: bool


def head_of(mirror: RunningMirror, request: ConsoleRequest, section: str, events: str = "") -> Head:
    """Return the head of the page that a request is for."""
    now, viewer = time.time(), request.viewer
    here = request.path + (f"?{urlencode(request.query)}" if request.query else "")
    return Head(
        host=mirror.host,
        version=mirror.version,
        uptime=max(0.0, now - mirror.started),
        now=now,
        section=section,
        here=here,
        events=events,
        viewer=login_of(viewer),
        names=viewer.sees_names,
    )


def login_of(viewer: Viewer | None) -> str:
    """Return the login of an operator; empty for other viewers."""
    return viewer.name or "" if viewer is not None and viewer.acts else ""
