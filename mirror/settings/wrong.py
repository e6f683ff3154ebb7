"""What is wrong with values, in words: the key, the value, and what is allowed."""

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
from mirror.settings.upstream import Upstream

# How a table is written in a variable or a secret.
_AS_JSON = {
    "upstreams": f'{{"{HUB}": {{"url": "{HUB_URL}"}}}}',
    "clients": '{"ci": {"token": "..."}}',
    "shares": '{"10.0.0.0/8": "25%"}',
}
TABLES = frozenset(_AS_JSON)
# What other programs call a key.
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
_WANTED = {  # instead of pydantic's words, which are for programmers
    "dict_type": "a table is wanted",
    "model_type": "a table is wanted",
    "model_attributes_type": "a table is wanted",
    "missing": "a value is wanted",
    "string_type": "text is wanted, in quotes",
    "bool_type": "true or false is wanted",
    "bool_parsing": "true or false is wanted",
    "int_type": "a whole number is wanted",
    "int_parsing": "a whole number is wanted",
    "int_parsing_size": "a smaller number is wanted",
    "int_from_float": "a whole number is wanted",
    "float_type": "a number is wanted",
    "float_parsing": "a number is wanted",
    "finite_number": "a number is wanted",
    "tuple_type": 'a list is wanted, such as ["a", "b"]',
    "greater_than": "more than {gt} is wanted",
    "greater_than_equal": "at least {ge} is wanted",
    "less_than_equal": "at most {le} is wanted",
    "literal_error": "{expected} is wanted",
}
_TABLES = {
    "upstreams": 'a table for each registry is wanted: [upstreams."NAME"] with its url',
    "clients": "a table for each client is wanted: [clients.NAME] with its token",
    "shares": f"a table is wanted, such as {_AS_JSON['shares']}",
}
_MODELS: dict[str, type[BaseModel]] = {"upstreams": Upstream, "clients": Client}
# A refused url that holds no user, password, or query, which may be a token.
_HARMLESS = re.compile(r"[\w:/.-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Wrong:
    """One thing that is wrong: the path to its key, and a line that begins with that."""

    path: tuple[str, ...]
    line: str


def wrong(error: ValidationError) -> list[Wrong]:
    """Say all that is wrong with values."""
    return [each for raised in error.errors() for each in _all_of(raised)]


def _all_of(error: Mapping[str, Any]) -> Iterator[Wrong]:
    """Say what a validator has found: of keys that do not go together a line for each."""
    path = tuple(str(part) for part in error["loc"] if part != "[key]")  # pydantic's, of a key
    for message in str(error["msg"]).removeprefix("Value error, ").split("\n"):
        if path:
            yield Wrong(path, _line(path, {**error, "msg": message}))
        else:  # it begins with the keys that it is about
            key = message.split(maxsplit=1)[0].rstrip(":")
            yield Wrong(tuple(key.split(".", 1)), message)


def unknown(name: str, known: Iterable[str], *, what: str = "unknown key") -> str:
    """Say that a name is unknown, and which may be meant."""
    names = sorted(known)
    plain, by_plain = _plain(name), {_plain(each): each for each in names}
    meant = by_plain.get(_KNOWN_AS.get(plain, ""))
    close = get_close_matches(plain, by_plain, 1, 0.75)
    meant = meant or (by_plain[close[0]] if close else None)
    hint = f"did you mean {meant}?" if meant else f"known are {', '.join(names)}"
    return f"{name}: {what}; {hint}"


def _plain(name: str) -> str:
    """Return the last key of a path, a variable's or a secret's first one."""
    last = name.partition("__")[0].rpartition(".")[2]
    return last.lower().removeprefix(PREFIX.lower())


def not_json(error: str) -> tuple[str, str]:
    """Say which variable or secret is not the JSON that a table wants, and not what it holds.

    `error` is what pydantic-settings says. Also returns the key.
    """
    found = re.search(r'field "(\w+)"', error)
    key = found[1] if found and found[1] in _AS_JSON else "upstreams"
    return f"{PREFIX}{key.upper()}: JSON is wanted, such as {_AS_JSON[key]}", key


def unquoted(upstreams: object) -> Iterator[str]:
    """Find tables of upstreams whose dots made tables within tables of them, as TOML has it."""
    if not isinstance(upstreams, Mapping):
        return
    for first, table in upstreams.items():
        name = ".".join([str(first), *_only_keys(table)])
        if "." not in str(first) and name != first:
            yield f'upstreams.{name}: a name with dots is quoted in a file: [upstreams."{name}"]'


def _only_keys(table: object) -> Iterator[str]:
    """Yield the keys that lead through tables that hold nothing but a table."""
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
    if table in _TABLES and error["type"] in ("dict_type", "model_type"):
        return _TABLES[table]
    words = _WANTED.get(error["type"])
    if words is None:
        return str(error["msg"]).removeprefix("Value error, ")
    return words.format(**error.get("ctx", {}))


def _is_kept_back(place: tuple[str, ...], value: object) -> bool:
    """Whether a value may be a password, or hold what looks like one, or is a whole table."""
    if isinstance(value, dict):
        return True
    private = place[:1] == ("clients",) or (
        place[:1] == ("upstreams",) and (place[-1] != "url" or not _HARMLESS.fullmatch(str(value)))
    )
    return private and not isinstance(value, int | float)
