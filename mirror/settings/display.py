"""The settings for display: each value in force, and its place. Secrets are hidden."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from pydantic import BaseModel, SecretStr

from mirror.identity.share import Share
from mirror.settings.keys import Settings
from mirror.settings.measures import Bound, PinnedPart, written_duration, written_size
from mirror.settings.sources import Sources
from mirror.settings.values import Address, Form

Plain: TypeAlias = str | int | float | bool | list["Plain"] | None
HIDDEN = "***"


@dataclass(frozen=True, slots=True)
class Row:
    """One key: its table, name and value (None if it has none), and the place of the value."""

    table: tuple[str, ...]
    name: str
    value: Plain
    place: str

    @property
    def key(self) -> str:
        """The key as in messages."""
        return ".".join((*self.table, self.name))


@dataclass(frozen=True, slots=True)
class Origins:
    """The sources of settings. The values of some keys are of `earlier` ones, until a restart."""

    sources: Sources
    earlier: Mapping[str, Sources] = field(default_factory=dict)

    def place(self, path: tuple[str, ...]) -> str:
        """Return the place of a key's value."""
        sources = self.earlier.get(path[0], self.sources)
        return (sources.place(path) or "flag") if sources.has(path) else "default"


def rows(origins: Origins, settings: Settings, proxies: Mapping[str, str]) -> Iterator[Row]:
    """Yield a row for every key. `proxies` are those of the environment, by upstream."""
    yield from _rows(origins, settings, ())
    for name, client in settings.clients.items():
        yield from _rows(origins, client, ("clients", name))
    for name, share in settings.shares.items():
        yield Row(("shares",), name, plain(share), origins.place(("shares", name)))
    for number, schedule in enumerate(settings.schedules):
        yield from _rows(origins, schedule, ("schedules", str(number)))
    for name, upstream in settings.upstreams.items():
        for row in _rows(origins, upstream, ("upstreams", name)):
            around = row.name == "proxy" and row.value is None and name in proxies
            yield Row(row.table, "proxy", proxies[name], "the environment") if around else row


def _rows(origins: Origins, model: BaseModel, table: tuple[str, ...]) -> Iterator[Row]:
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        if not isinstance(value, dict) and name != "schedules":
            form = next((each.word for each in info.metadata if isinstance(each, Form)), "")
            yield Row(table, name, plain(value, form), origins.place((*table, name)))


def plain(value: object, form: str = "") -> Plain:
    """Return a value as a file would have it; `form` is the word for the form of its key."""
    match value:
        case SecretStr():
            return _hidden(value.get_secret_value())
        case Bound() | PinnedPart() | Share():
            return _part(value)
        case Address() | Path():
            return str(value)
        case tuple():
            return [plain(each) for each in value]
        case None | bool() | str():
            return value
    if isinstance(value, int | float):
        return _number(value, form)
    raise TypeError(type(value))


def _part(value: Bound | PinnedPart | Share) -> Plain:
    if isinstance(value, PinnedPart) or value.percent:
        return f"{value.percent:g}%"
    return written_size(value.bytes) if isinstance(value, Bound) else value.pulls


def _number(value: float, form: str) -> Plain:
    match form:
        case "SIZE":
            return written_size(int(value))
        case "DURATION":
            return written_duration(float(value))
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _hidden(text: str) -> str:
    """Hide a secret; in a proxy's URL only the login is secret."""
    scheme, colon, rest = text.partition("://")
    if not colon:
        return HIDDEN if text not in ("", "none") else text
    login, at, host = rest.rpartition("@")
    return f"{scheme}://{HIDDEN if login else ''}{at}{host}"


def text(found: Iterator[Row]) -> Iterator[str]:
    """Write rows as lines of TOML, each with its place as a comment."""
    table: tuple[str, ...] = ()
    for row in found:
        if row.table != table:
            table = row.table
            yield ""
            is_listed = table[0] == "schedules"
            yield "[[schedules]]" if is_listed else f"[{'.'.join(map(_name, table))}]"
        if row.value is None:
            yield f"# {row.name} is not set"
        else:
            yield f"{f'{_name(row.name)} = {_written(row.value)}':<40}  # {row.place}"


def _name(name: str) -> str:
    bare = name.isascii() and name.replace("_", "a").replace("-", "a").isalnum()
    return name if bare else json.dumps(name)


def _written(value: Plain) -> str:
    return json.dumps(value, ensure_ascii=False)  # TOML writes text, numbers and lists alike
