"""The settings for display: each value in force, and its place. Secrets are hidden."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pydantic import BaseModel, SecretStr

from mirror.identity.share import Share
from mirror.settings.keys import Settings
from mirror.settings.load import Loaded
from mirror.settings.measures import Bound
from mirror.settings.values import Address

Plain: TypeAlias = str | int | float | bool | list["Plain"] | None
HIDDEN = "***"
_UNITS = (("GiB", 1024**3), ("MiB", 1024**2))


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


def rows(loaded: Loaded, settings: Settings, proxies: Mapping[str, str]) -> Iterator[Row]:
    """Yield a row for every key. `proxies` are those of the environment, by upstream."""
    yield from _rows(loaded, settings, ())
    for name, client in settings.clients.items():
        yield from _rows(loaded, client, ("clients", name))
    for name, share in settings.shares.items():
        yield Row(("shares",), name, plain(share), _place(loaded, ("shares", name)))
    for number, schedule in enumerate(settings.schedules):
        yield from _rows(loaded, schedule, ("schedules", str(number)))
    for name, upstream in settings.upstreams.items():
        for row in _rows(loaded, upstream, ("upstreams", name)):
            around = row.name == "proxy" and row.value is None and name in proxies
            yield Row(row.table, "proxy", proxies[name], "the environment") if around else row


def _rows(loaded: Loaded, model: BaseModel, table: tuple[str, ...]) -> Iterator[Row]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if not isinstance(value, dict) and name != "schedules":
            yield Row(table, name, plain(value), _place(loaded, (*table, name)))


def _place(loaded: Loaded, path: tuple[str, ...]) -> str:
    if not loaded.sources.has(path):
        return "default"
    return loaded.sources.place(path) or "flag"


def plain(value: object) -> Plain:
    """Return a value as a file would have it."""
    match value:
        case SecretStr():
            return _hidden(value.get_secret_value())
        case Bound(percent=percent) | Share(percent=percent) if percent:
            return f"{percent:g}%"
        case Bound() | Share():
            return _size(value.bytes) if isinstance(value, Bound) else value.pulls
        case Address() | Path():
            return str(value)
        case tuple():
            return [plain(each) for each in value]
        case None | bool() | int() | float() | str():
            return int(value) if isinstance(value, float) and value.is_integer() else value
    raise TypeError(type(value))


def _size(size: int) -> str | int:
    return next((f"{size // unit}{name}" for name, unit in _UNITS if size % unit == 0), size)


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
