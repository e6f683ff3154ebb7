"""The templates of pages: compiled once, for the first request, and off the event loop."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from mirror.console.render import numbers

_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file that pages load. Its address has a hash of its content, so it never changes."""

    body: bytes
    media_type: str
    address: str


class Templates:
    """Templates, and the static files that they name."""

    def __init__(self, environment: jinja2.Environment, files: Mapping[str, StaticFile]) -> None:
        self._environment = environment
        self.files = files

    def __repr__(self) -> str:
        return f"<Templates: {len(self._environment.list_templates())}>"

    def render(self, name: str, **values: object) -> Markup:
        """Return a template with these values; text among them is escaped."""
        text = self._environment.get_template(name).render(values)
        return Markup(text)  # noqa: S704 - the templates escape


def load_templates() -> Templates:
    """Read and compile all templates: 0.2 s of work for a thread."""
    files = MappingProxyType(_static_files())
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.PackageLoader("mirror.console", "templates"),
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["static"] = lambda name: files[name].address
    environment.filters.update(
        count=numbers.count,
        size=numbers.size,
        span=numbers.span,
        share=numbers.share,
        clock=numbers.clock,
        ago=numbers.ago,
        iso=numbers.iso,
        short=numbers.short,
        image_path=image_path,
        breakable=breakable,
    )
    for name in environment.list_templates():
        environment.get_template(name)
    return Templates(environment, files)


def image_path(reference: str) -> str:
    """Return the path of an image's page."""
    return f"/images/{quote(reference, safe='/:@')}"


def breakable(name: str) -> Markup:
    """Return a name that browsers break after a slash rather than within a word."""
    return Markup("/<wbr>").join(name.split("/"))


def _static_files() -> dict[str, StaticFile]:
    folder = resources.files("mirror.console") / "static"
    return {file.name: _static_file(file.name, file.read_bytes()) for file in folder.iterdir()}


def _static_file(name: str, body: bytes) -> StaticFile:
    version = hashlib.sha256(body).hexdigest()[:12]
    kind = _TYPES[name.rpartition(".")[2]]
    return StaticFile(body, f"{kind}; charset=utf-8", f"/static/{name}?v={version}")
