"""The faults of values as messages: the key, the value, and the allowed values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from mirror.oci.names import HUB
from mirror.settings.client import Client
from mirror.settings.keys import HUB_URL, PREFIX, Settings
from mirror.settings.schedule import Schedule
from mirror.settings.upstream import Upstream

# The form of a table in a variable or a secret.
_AS_JSON = {
    "upstreams": f'{{"{HUB}": {{"url": "{HUB_URL}"}}}}',
    "clients": '{"ci": {"token": "..."}}',
    "shares": '{"10.0.0.0/8": "25%"}',
    "schedules": '[{"when": "0 5 * * 1-5", "images": ["nginx:1.25"]}]',
}
TABLES = frozenset(_AS_JSON)
# Names of keys in other programs.
_KNOWN_AS = {
    **dict.fromkeys(("address", "addr", "bind", "host", "http", "port"), "listen"),
    **dict.fromkeys(("cache_dir", "data", "directory", "root", "storage"), "data_dir"),
    **dict.fromkeys(("cache_size", "limit", "max_cache_size", "size"), "max_size"),
    **dict.fromkeys(("proxy", "remote", "remoteurl", "registries", "upstream"), "upstreams"),
    **dict.fromkeys(("ttl", "cache_ttl"), "tag_ttl"),
    **dict.fromkeys(("level", "loglevel"), "log_level"),
    **dict.fromkeys(("cert", "certificate", "tls"), "tls_cert"),
    **dict.fromkeys(("debug", "verbose"), "log_level"),
}
_WANTED = {  # instead of pydantic's messages, which are for programmers
    "dict_type": "expected a table",
    "model_type": "expected a table",
    "model_attributes_type": "expected a table",
    "missing": "expected a value",
    "string_type": "expected text, in quotes",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_parsing_size": "expected a smaller number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "finite_number": "expected a number",
    "tuple_type": 'expected a list, such as ["a", "b"]',
    "greater_than": "expected more than {gt}",
    "greater_than_equal": "expected at least {ge}",
    "less_than_equal": "expected at most {le}",
    "literal_error": "expected {expected}",
}
_TABLES = {
    "upstreams": 'expected a table for each registry: [upstreams."NAME"] with its url',
    "clients": "expected a table for each client: [clients.NAME] with its token",
    "shares": f"expected a table, such as {_AS_JSON['shares']}",
    "schedules": "expected a table for each schedule: [[schedules]] with when and images",
}
_NO_TABLE = ("dict_type", "model_type", "model_attributes_type", "tuple_type")
_MODELS: dict[str, type[BaseModel]] = {
    "upstreams": Upstream,
    "clients": Client,
    "schedules": Schedule,
}
# A refused url without user, password and query (a possible token).
_HARMLESS = re.compile(r"[\w:/.-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: the path of its key, and a line that begins with the key."""

    path: tuple[str, ...]
    line: str


def wrong(error: ValidationError) -> list[Fault]:
    """Return all faults of values."""
    return [each for raised in error.errors() for each in _all_of(raised)]


def _all_of(error: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield the faults that a validator has found: a line for each pair of keys that conflict."""
    path = tuple(str(part) for part in error["loc"] if part != "[key]")  # pydantic's, of a key
    for message in str(error["msg"]).removeprefix("Value error, ").split("\n"):
        if path:
            yield Fault(path, _line(path, {**error, "msg": message}))
        else:  # the message begins with its keys
            key = message.split(maxsplit=1)[0].rstrip(":")
            yield Fault(tuple(key.split(".", 1)), message)


def unknown(name: str, known: Iterable[str], *, what: str = "unknown key") -> str:
    """Return the message for an unknown name, with a suggestion."""
    names = sorted(known)
    plain, by_plain = _plain(name), {_plain(each): each for each in names}
    meant = by_plain.get(_KNOWN_AS.get(plain, ""))
    close = get_close_matches(plain, by_plain, 1, 0.75)
    meant = meant or (by_plain[close[0]] if close else None)
    hint = f"did you mean {meant}?" if meant else f"known are {', '.join(names)}"
    return f"{name}: {what}; {hint}"


def _plain(name: str) -> str:
    """Return the last key of a path, or the first of a variable or a secret."""
    last = name.partition("__")[0].rpartition(".")[2]
    return last.lower().removeprefix(PREFIX.lower())


def not_json(error: str) -> tuple[str, str]:
    """Return the message for a variable or secret that is not the JSON of a table, and its key.

    The message does not repeat the value. `error` is the message of pydantic-settings.
    """
    found = re.search(r'field "(\w+)"', error)
    key = found[1] if found and found[1] in _AS_JSON else "upstreams"
    return f"{PREFIX}{key.upper()}: expected JSON, such as {_AS_JSON[key]}", key


def unquoted(upstreams: object) -> Iterator[str]:
    """Find upstreams with unquoted names: TOML reads their dots as nested tables."""
    if not isinstance(upstreams, Mapping):
        return
    for first, table in upstreams.items():
        name = ".".join([str(first), *_only_keys(table)])
        if "." not in str(first) and name != first:
            yield f'upstreams.{name}: a name with dots is quoted in a file: [upstreams."{name}"]'


def _only_keys(table: object) -> Iterator[str]:
    """Yield the keys that lead through tables with a single table in each."""
    while isinstance(table, Mapping) and len(table) == 1:
        [(key, table)] = table.items()
        if not isinstance(table, Mapping):
            return
        yield str(key)


def _line(path: tuple[str, ...], error: Mapping[str, Any]) -> str:
    key = " ".join(".".join(path).split())
    if error["type"] == "extra_forbidden":
        return unknown(key, _MODELS.get(path[0], Settings).model_fields)
    message = _message(key, error)
    if error["type"] == "missing" or _is_kept_back(path, error["input"]):
        return f"{key}: {message}"
    return f"{key} is {error['input']!r}: {message}"


def _message(key: str, error: Mapping[str, Any]) -> str:
    table = key.partition(".")[0]
    if table in _TABLES and error["type"] in _NO_TABLE:
        return _TABLES[table]
    words = _WANTED.get(error["type"])
    if words is None:
        return str(error["msg"]).removeprefix("Value error, ")
    return words.format(**error.get("ctx", {}))


def _is_kept_back(place: tuple[str, ...], value: object) -> bool:
    """Whether to hide a value: it may be or contain a password, or is a whole table."""
    if isinstance(value, dict):
        return True
    private = place[:1] == ("clients",) or (
        place[:1] == ("upstreams",) and (place[-1] != "url" or not _HARMLESS.fullmatch(str(value)))
    )
    return private and not isinstance(value, int | float)
