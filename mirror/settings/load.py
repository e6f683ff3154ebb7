"""Loading of the settings: merged from all sources, with all their faults."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
)

from mirror.settings.faults import Fault, wrong
from mirror.settings.keys import PREFIX, Settings
from mirror.settings.sources import Sources, at, gather, path_of
from mirror.settings.values import ConfigurationError


class _Merged(Settings):
    """The same keys, with values that are merged already."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - as pydantic-settings calls it
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read no source again."""
        return (init_settings,)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The outcome of a load: settings without the faulty values, if any are left, and the faults.

    `left_out` are the names of the keys and tables that were removed as faulty.
    """

    sources: Sources
    settings: Settings | None
    faults: tuple[str, ...] = ()
    left_out: frozenset[str] = frozenset()

    def checked(self) -> Settings:
        """Return the settings; raises ConfigurationError, which names the first fault."""
        if self.faults or self.settings is None:
            raise ConfigurationError(self.faults[0])
        return self.settings

    def overruled(self) -> Iterator[str]:
        """Yield a line for each variable that overrules a key of the file, by names only."""
        flags, *_, from_file = self.sources.read
        for variable, value in sorted(os.environ.items()):
            path = path_of(variable)
            if not variable.upper().startswith(PREFIX) or at(flags.values, path) is not None:
                continue
            stands = at(from_file.values, path)
            if stands is not None and str(stands) != value:
                yield f"{variable} overrules {'.'.join(path)} of {self.sources.file}"

    def follows(self, fault: str) -> bool:
        """Whether a fault may be a consequence of a key that was left out."""
        return _names_any(fault, self.left_out)


def load(flags: Mapping[str, object] | None = None, file: Path | None = None) -> Settings:
    """Read flags over environment over secrets over file over defaults.

    Raises ConfigurationError, which names the first fault.
    """
    return load_all(flags, file).checked()


def load_all(flags: Mapping[str, object] | None = None, file: Path | None = None) -> Loaded:
    """Read all sources, and find all faults, each with its place."""
    sources = gather(flags, file)
    settings, found, left_out = _validated(sources.merged())
    faults = [*sources.faults, *(each.line for each in found)]
    return Loaded(sources, settings, tuple(map(sources.placed, faults)), frozenset(left_out))


def _validated(values: dict[str, Any]) -> tuple[Settings | None, list[Fault], set[str]]:
    """Validate, and repeat without the faulty values until none is left: a fault may hide others.

    Faults that may be consequences of a removed value are not reported.
    """
    found: list[Fault] = []
    gone: set[tuple[str, ...]] = set()
    while True:
        left_out = {path[-1] for path in gone}
        try:
            return _Merged(**values), found, left_out
        except ValidationError as error:
            new_faults = wrong(error)
        found += [e for e in new_faults if e.path not in gone and not _names_any(e.line, left_out)]
        gaps = {path for each in new_faults if (path := _there(values, each.path))}
        if not gaps:
            return None, found, left_out
        gone |= gaps
        for path in gaps:
            values = _without(values, path)


def _there(values: dict[str, Any], path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the longest part of a path that leads to a value."""
    while path and at(values, path) is None:
        path = path[:-1]
    return path


def _without(values: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    name, *rest = path
    left = {key: value for key, value in values.items() if key != name}
    if rest and isinstance(values.get(name), dict):
        left[name] = _without(values[name], tuple(rest))
    return left


def _names_any(line: str, names: Iterable[str]) -> bool:
    return any(re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", line) for name in names)


def load_usable(flags: Mapping[str, object] | None = None, file: Path | None = None) -> Settings:
    """Read the settings without the faulty values, to find the running mirror.

    A file that was broken since does not matter to a running mirror, which may also have secrets
    that other processes lack. Raises ConfigurationError if the data folder is unknown.
    """
    loaded = load_all(flags, file)
    is_given = loaded.sources.has(("data_dir",)) and "data_dir" not in loaded.left_out
    if loaded.settings is None or (loaded.faults and not is_given):
        raise ConfigurationError(loaded.faults[0])
    return loaded.settings
