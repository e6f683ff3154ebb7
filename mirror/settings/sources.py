"""Sources of values: flags over variables over secrets over a file, and the place of each value."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic_settings import (
    EnvSettingsSource,
    NestedSecretsSettingsSource,
    SecretsSettingsSource,
    SettingsError,
)

from mirror.settings import toml_lines
from mirror.settings.faults import (
    TABLES,
    not_json,
    unknown,
    unquoted,
)
from mirror.settings.keys import PREFIX, Settings
from mirror.settings.values import ConfigurationError
from mirror.util.permissions import explain_unreadable

_NOT_KEYS = frozenset({"CONFIG", "SECRETS_DIR"})
# Variables that Kubernetes sets in each container for a Service named `mirror…`.
_OF_A_SERVICE = re.compile(
    r"MIRROR_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)


@dataclass(frozen=True, slots=True)
class ValueSource:
    """The values of one source. `places` name the place of a key, or of its table."""

    values: dict[str, Any]
    places: Mapping[toml_lines.Path, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sources:
    """All sources, in order of precedence, and their unusable parts as `faults`."""

    read: tuple[ValueSource, ...]
    faults: tuple[str, ...] = ()
    file: Path | None = None

    def merged(self) -> dict[str, Any]:
        """Return the values in force, as written."""
        values: dict[str, Any] = {}
        for source in self.read:
            values = _over(values, source.values)
        return values

    def has(self, path: toml_lines.Path) -> bool:
        """Whether a source has a value for a key; otherwise the default is in force."""
        return any(at(source.values, path) is not None for source in self.read)

    def place(self, path: toml_lines.Path) -> str | None:
        """Return the place of a key's value: None if no source has one, "" for a flag.

        For a key without a value in a table that exists, that is the table's place.
        """
        for length in range(len(path), 0, -1):
            for source in self.read:
                if at(source.values, path[:length]) is not None:
                    return _nearest(source.places, path[:length])
        return None

    def placed(self, line: str) -> str:
        """Insert the place of a key into a line that begins with the key."""
        [key] = re.findall(r"^(\S*?)(?=:? (?!\()|:?$)", line) or [""]  # not twice
        place = self.place(max(self._paths(key), key=len, default=()))
        return f"{key} ({place}){line[len(key) :]}" if place else line

    def _paths(self, key: str) -> Iterator[toml_lines.Path]:
        """Yield the paths that a key may mean, as the names of its tables may contain dots."""
        yield from _spelt(key, self.merged())


NOTHING = Sources(())  # all values are defaults


def gather(flags: Mapping[str, object] | None, file: Path | None) -> Sources:
    """Read every source; unusable parts are left out, and described in `faults`."""
    chosen, faults = chosen_file(file), _unknown_variables()
    from_file, variables, secrets = ValueSource({}), ValueSource({}), ValueSource({})
    try:
        from_file = read_file(chosen)
    except ConfigurationError as error:
        faults.append(str(error))
    faults += unquoted(from_file.values.get("upstreams"))
    from_file = ValueSource(_quoted(from_file.values), from_file.places)
    variables, more_faults = _complete(EnvSettingsSource(Settings), _variables())
    faults += more_faults
    try:
        secrets, more_faults = _secrets()
        faults += more_faults
    except ConfigurationError as error:
        faults.append(str(error))
    read = ValueSource(dict(flags or {})), variables, secrets, from_file
    return Sources(read, tuple(faults), chosen)


def at(values: object, path: Sequence[str]) -> object:
    """Return the value at the end of a path through tables, or None."""
    for name in path:
        if isinstance(values, list):
            is_there = name.isdecimal() and int(name) < len(values)
            values = values[int(name)] if is_there else None
        else:
            values = values.get(name) if isinstance(values, dict) else None
    return values


def chosen_file(file: Path | None) -> Path | None:
    """Return the file to read: the flag's, or the variable's."""
    named = os.environ.get(PREFIX + "CONFIG")
    return Path(named) if file is None and named else file


def read_file(file: Path | None) -> ValueSource:
    """Read a file; raises ConfigurationError."""
    if file is None:
        return ValueSource({})
    try:
        text = file.read_text("utf-8-sig")  # Notepad and PowerShell write a byte order mark
        values = tomllib.loads(text)
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {explain_unreadable(error)}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{file}: is not TOML: {error}") from None
    except RecursionError:
        raise ConfigurationError(f"{file}: is not TOML: it is nested too deeply") from None
    found = toml_lines.lines_of(text)
    return ValueSource(values, {path: f"line {line} of {file}" for path, line in found.items()})


def path_of(variable: str) -> toml_lines.Path:
    """Return the key that a variable, or a secret, sets."""
    key, *rest = variable.lower().removeprefix(PREFIX.lower()).split("__")
    if key == "upstreams":
        rest[:1] = [name.replace("_", ".") for name in rest[:1]]
    return (key, *rest)


def _over(values: dict[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Merge values over others, table by table."""
    merged = dict(values)
    for key, value in others.items():
        mine = merged.get(key)
        if isinstance(mine, dict) and isinstance(value, Mapping):
            merged[key] = _over(mine, value)
        else:
            merged.setdefault(key, value)
    return merged


def _nearest(places: Mapping[toml_lines.Path, str], path: toml_lines.Path) -> str:
    known = (places.get(path[:length]) for length in range(len(path), 0, -1))
    return next((place for place in known if place is not None), "")


def _spelt(key: str, values: object) -> Iterator[toml_lines.Path]:
    """Yield the paths that spell the key or its beginning, with dots between their names."""
    if isinstance(values, list):
        values = {str(number): value for number, value in enumerate(values)}
    if not isinstance(values, dict):
        return
    for name in map(str, values):
        if key == name or key.startswith(f"{name}."):
            yield (name,)
            yield from ((name, *rest) for rest in _spelt(key[len(name) + 1 :], values[name]))


# Variables


def _variables() -> dict[toml_lines.Path, str]:
    names = (name for name in sorted(os.environ) if name.upper().startswith(PREFIX))
    return {path_of(name): name for name in names}


def _complete(
    source: EnvSettingsSource, places: Mapping[toml_lines.Path, str]
) -> tuple[ValueSource, list[str]]:
    """Read variables or secrets without the tables that are not JSON; also return their faults."""
    faults: list[str] = []
    while True:
        try:
            return ValueSource(_dotted(source()), places), faults
        except (SettingsError, RecursionError) as error:
            fault, key = not_json(_too_deep(source) or str(error))
            left = {n: v for n, v in source.env_vars.items() if path_of(n) != (key,)}
            if len(left) == len(source.env_vars):  # the error does not name its key
                return ValueSource({}), [*faults, fault]
            source.env_vars = left
            faults.append(fault)


def _too_deep(source: EnvSettingsSource) -> str:
    """Return the name of a table with too many levels for the JSON parser, or ""."""
    for name, text in source.env_vars.items():
        try:
            if path_of(name)[0] in TABLES:
                json.loads(text or "")
        except RecursionError:
            return f'field "{path_of(name)[0]}"'
        except ValueError:
            continue
    return ""


def _dotted(values: dict[str, Any]) -> dict[str, Any]:
    """Rename upstreams as in a file: `DOCKER_IO` is for shells without dots in names."""
    upstreams = values.get("upstreams")
    if not isinstance(upstreams, dict):
        return values
    return {**values, "upstreams": {name.replace("_", "."): u for name, u in upstreams.items()}}


def _unknown_variables() -> list[str]:
    """Report variables that pydantic-settings ignores: a misspelt one would have no effect."""
    known = {name.upper() for name in Settings.model_fields} | _NOT_KEYS
    names = {PREFIX + key for key in known}
    return [
        unknown(variable, names, what="unknown environment variable")
        for variable, value in os.environ.items()
        if variable.upper().startswith(PREFIX)
        and not _is_known(variable.upper().removeprefix(PREFIX), known)
        and not _is_of_a_service(variable.upper(), value)
    ]


def _is_known(name: str, known: set[str]) -> bool:
    return name in known or name.startswith(("UPSTREAMS__", "CLIENTS__"))


def _is_of_a_service(variable: str, value: str) -> bool:
    port = variable.endswith("_PORT") and "://" in value
    return port or _OF_A_SERVICE.fullmatch(variable) is not None


# Secrets


def _secrets() -> tuple[ValueSource, list[str]]:
    """Read the folder of secrets: MIRROR_SECRETS_DIR, or systemd's.

    Raises ConfigurationError.
    """
    folder = os.environ.get(PREFIX + "SECRETS_DIR")
    if folder and not Path(folder).is_dir():
        raise ConfigurationError(f"{PREFIX}SECRETS_DIR is {folder!r}: expected a folder")
    folder = folder or os.environ.get("CREDENTIALS_DIRECTORY")
    if folder is None:
        return ValueSource({}), []
    try:
        odd = _odd_secrets(folder)
        source = NestedSecretsSettingsSource(SecretsSettingsSource(Settings), secrets_dir=folder)
    except OSError as error:
        why = explain_unreadable(error)
        raise ConfigurationError(f"a secret in {folder} cannot be read: {why}") from None
    except (UnicodeDecodeError, SettingsError) as error:
        raise ConfigurationError(f"a secret in {folder} cannot be read: {error}") from None
    places = {path_of(name): f"the secret {name} in {folder}" for name in source.env_vars}
    found, faults = _complete(source, places)
    return found, odd + faults


def _odd_secrets(folder: str) -> list[str]:
    """Report secrets with unknown names, and empty ones; files of other programs are ignored."""
    known = {PREFIX.lower() + name for name in Settings.model_fields}
    faults: list[str] = []
    for file in sorted(Path(folder).glob(f"{PREFIX.lower()}*")):
        if file.name.split("__")[0] not in known:
            faults.append(unknown(file.name, known, what=f"unknown secret in {folder}"))
        elif file.is_file() and not file.read_bytes().strip():
            faults.append(f"{file.name}: the secret in {folder} is empty")
    return faults


def _quoted(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out upstreams with unquoted names: they have been reported."""
    upstreams = values.get("upstreams")
    if not isinstance(upstreams, dict):
        return values
    good = {name: each for name, each in upstreams.items() if not [*unquoted({name: each})]}
    return {**values, "upstreams": good}
