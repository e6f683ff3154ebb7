"""The configuration's keys as flags."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from mirror.cli.key_names import GROUPS, flag
from mirror.settings import Settings
from mirror.settings.measures import Bound
from mirror.settings.values import Form
from mirror.util.units import duration, human


def add_keys(command: argparse.ArgumentParser, *, shown: bool = True) -> None:
    """Add a flag for each key that a flag can hold, and one for a file with all keys.

    The keys are in the help of the command only if they are `shown`.
    """
    command.usage = f"{command.prog} [--KEY VALUE ...]"
    command.add_argument(
        "--config", type=Path, metavar="FILE", help="the configuration, a TOML file"
    )
    for title, names in GROUPS.items():
        group = command.add_argument_group(title)
        for name in names:
            _add(group, name, shown=shown)
        if title == "upstreams":
            group.add_argument(
                "--upstream",
                type=_upstream,
                action="append",
                default=[],
                metavar="NAME=URL",
                help="a registry to mirror; passwords are not for the command line"
                if shown
                else argparse.SUPPRESS,
            )


def given(options: argparse.Namespace) -> dict[str, object]:
    """Return the keys that were given on the command line."""
    names = (name for each in GROUPS.values() for name in each)
    keys = {name: value for name in names if (value := getattr(options, name)) is not None}
    upstreams = dict(options.upstream)
    return keys | ({"upstreams": upstreams} if upstreams else {})


def _add(group: argparse._ArgumentGroup, name: str, *, shown: bool) -> None:
    field = Settings.model_fields[name]
    forms = [each.word for each in (*field.metadata, *_parts(field.annotation)) if _is_form(each)]
    form = forms[0] if forms else _form(field.annotation)
    about = _about(field, form) if shown else argparse.SUPPRESS
    group.add_argument(flag(name), dest=name, metavar=form, help=about)


def _about(field: FieldInfo, form: str) -> str:
    """Return the description of a key as argparse has its help, with the default."""
    about = (field.description or "").rstrip(".")
    default = _shown(field.default, form)
    said = f"{about[:1].lower()}{about[1:]}{f' (default: {default})' if default else ''}"
    return said.replace("%", "%%")


def _is_form(value: object) -> bool:
    return isinstance(value, Form)


def _parts(annotation: Any) -> Iterator[Any]:  # noqa: ANN401 - annotations have no common type
    """Yield the parts of an annotation, at any depth."""
    for part in get_args(annotation):
        yield part
        yield from _parts(part)


def _form(annotation: object) -> str:
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    return "true|false" if annotation is bool else "NUMBER"


def _shown(default: object, form: str) -> str:
    """Return a default as it may be typed; "" for keys that are off without a value."""
    if default is None or default == ():
        return ""
    if isinstance(default, Bound):
        return str(default).replace(".0 ", "")
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, int | float):
        return _number(default, form)
    return ",".join(default) if type(default) is tuple else str(default)


def _number(default: float, form: str) -> str:
    match form:
        case "SIZE":
            return human(default).replace(".0 ", "")
        case "DURATION":
            return str(default) + (f": {duration(default)}" if default >= 120 else "")
    return str(default)


def _upstream(text: str) -> tuple[str, dict[str, str]]:
    name, equals, url = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=URL")
    return name, {"url": url}
