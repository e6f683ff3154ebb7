"""The names of settings: each key is handed on under its name, down to the part that uses it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import mirror.app
from mirror.settings import Client, Settings, Upstream

KEYS = {*Settings.model_fields, *Upstream.model_fields, *Client.model_fields}
SETTINGS = {"settings", "upstream", "each"}  # the names of values that have the keys
# Calls that turn a value into another one, which is handed on in its place.
CONVERTED = {"Patterns", "URL", "min", "get_secret_value", "in_bytes"}
# Keys that several parts are made of, or that are handed on in another form.
IN_OTHER_FORM = {
    "listen": "an address to bind",
    "listen_metrics": "an address to bind",
    "admin_listen": "an address to bind",
    "admin_hosts": "names of the page, with the names of the mirror",
    "host_names": "names of the mirror, with `hosts`",
    "hosts": "a table by host",
    "data_dir": "an absolute folder",
    "clients": "a table of clients",
    "upstreams": "a table of upstreams",
    "log_level": "set for the whole process",
    "max_size": "bytes of a file system",
    "url": "an upstream's origin",
    "username": "a login, with the password",
    "password": "a login, with the username",
    "proxy": "the proxies by scheme",
}


class Use(NamedTuple):
    """A key of the settings in a call: its place, and the keyword under which it is handed on."""

    key: str
    keyword: str | None
    place: str


def _called(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _parents(tree: ast.AST) -> dict[ast.AST, ast.AST]:
    return {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}


def _key(node: ast.AST) -> str | None:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.attr if node.value.id in SETTINGS and node.attr in KEYS else None
    return None


def _use(node: ast.Attribute, parents: dict[ast.AST, ast.AST], file: str) -> Use | None:
    """Return how a key is handed on to a part; None if it is only looked at."""
    inner: ast.AST = node
    outer, place = parents[node], f"{file}:{node.lineno}"
    while not isinstance(outer, ast.stmt):
        match outer:
            case ast.keyword():
                return Use(node.attr, outer.arg, place)
            case ast.Compare() | ast.JoinedStr():
                return None
            case ast.IfExp() if inner is outer.test:
                return None
            case ast.Call() if inner is not outer.func and _makes_a_part(outer):
                return Use(node.attr, None, place)
        inner, outer = outer, parents[outer]
    if isinstance(outer, ast.Assign) and isinstance(outer.targets[0], ast.Attribute):
        return Use(node.attr, outer.targets[0].attr, place)
    return None


def _makes_a_part(call: ast.Call) -> bool:
    name = _called(call)
    return name[:1].isupper() and name not in CONVERTED


def _uses() -> Iterator[Use]:
    for file in sorted(Path(mirror.app.__path__[0]).glob("*.py")):
        tree = ast.parse(file.read_text())
        parents = _parents(tree)
        found = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _key(node))
        uses = (_use(node, parents, file.name) for node in found)
        yield from (use for use in uses if use is not None)


USES = [*_uses()]


@pytest.mark.parametrize("key", sorted(KEYS - IN_OTHER_FORM.keys()))
def test_a_key_is_handed_on_under_its_own_name(key: str) -> None:
    names = {use.keyword: use.place for use in USES if use.key == key}
    assert names.pop(key, None), f"{key}: no part takes it by its name"
    assert not names


def test_each_key_in_another_form_is_a_key() -> None:
    assert IN_OTHER_FORM.keys() <= KEYS
