"""Where the values come from: flags, environment, secrets, a file; and what is wrong with them."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsError,
)

from mirror.oci.names import HUB
from mirror.settings.client import Client
from mirror.settings.keys import HUB_URL, PREFIX, Settings
from mirror.settings.upstream import Upstream
from mirror.settings.values import ConfigurationError

_NOT_KEYS = frozenset({"CONFIG", "SECRETS_DIR"})


def load(flags: Mapping[str, object] | None = None, file: Path | None = None) -> Settings:
    """Read flags over environment over secrets over file over defaults.

    Raises ConfigurationError.
    """
    _refuse_unknown_variables()
    from_file = _read_file(_chosen(file))
    secrets = _secrets_folder()

    class Loaded(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - we read no .env
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            from_secrets = NestedSecretsSettingsSource(file_secret_settings, secrets_dir=secrets)
            values = (
                init_settings(),
                _dotted(env_settings()),
                _dotted(from_secrets()),
                from_file,
            )
            return tuple(InitSettingsSource(settings_cls, each) for each in values)

    try:
        return Loaded(**dict(flags or {}))  # type: ignore[arg-type]
    except ValidationError as error:
        raise ConfigurationError(_in_words(error)) from None
    except SettingsError:  # of a variable or secret that is not JSON; it may hold a password
        wanted = (
            f"""{PREFIX}UPSTREAMS: JSON is wanted, such as {{"{HUB}": {{"url": "{HUB_URL}"}}}}"""
        )
        raise ConfigurationError(wanted) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"a secret in {secrets} cannot be read: {error}") from None


def overruled(flags: Mapping[str, object] | None = None, file: Path | None = None) -> list[str]:
    """Say of each variable in force which key of the file it overrules, by names alone.

    Of what `load` has taken. Raises ConfigurationError if the file cannot be read any more.
    """
    file = _chosen(file)
    from_file = _read_file(file)
    said = []
    for variable, value in sorted(os.environ.items()):
        key, *rest = variable.lower().removeprefix(PREFIX.lower()).split("__")
        path = [key, *(name.replace("_", ".") for name in rest[:1]), *rest[1:]]
        if not variable.upper().startswith(PREFIX) or _at(flags, path) is not None:
            continue
        stands = _at(from_file, path)
        if stands is not None and str(stands) != value:
            said.append(f"{variable} overrules {'.'.join(path)} of {file}")
    return said


def _at(values: object, path: Sequence[str]) -> object:
    """Return what stands at the end of a path through tables, None for nothing."""
    for name in path:
        values = values.get(name) if isinstance(values, dict) else None
    return values


def _chosen(file: Path | None) -> Path | None:
    """Return the file to read: the flag's, or the variable's."""
    named = os.environ.get(PREFIX + "CONFIG")
    return Path(named) if file is None and named else file


def _dotted(values: dict[str, Any]) -> dict[str, Any]:
    """Name upstreams as a file does: `DOCKER_IO` is for shells that allow no dots."""
    upstreams = values.get("upstreams")
    if not isinstance(upstreams, dict):
        return values
    return {**values, "upstreams": {name.replace("_", "."): u for name, u in upstreams.items()}}


def _secrets_folder() -> str | None:
    """Return the folder of secrets: ours if we were told, systemd's otherwise."""
    folder = os.environ.get(PREFIX + "SECRETS_DIR")
    if folder and not Path(folder).is_dir():
        raise ConfigurationError(f"{PREFIX}SECRETS_DIR is {folder!r}: a folder is wanted")
    return folder or os.environ.get("CREDENTIALS_DIRECTORY")


def _read_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{file}: is not TOML: {error}") from None


def _refuse_unknown_variables() -> None:
    """Refuse what pydantic-settings passes over: a misspelt variable would do nothing."""
    known = {name.upper() for name in Settings.model_fields} | _NOT_KEYS
    for variable in os.environ:
        name = variable.upper().removeprefix(PREFIX)
        nested = name.startswith(("UPSTREAMS__", "CLIENTS__"))
        if variable.upper().startswith(PREFIX) and name not in known and not nested:
            raise ConfigurationError(
                f"unknown environment variable {variable}; known are "
                f"{', '.join(PREFIX + key for key in sorted(known))}"
            )


_WANTED = {  # instead of pydantic's words, which are for programmers
    "dict_type": 'a table for each registry is wanted: [upstreams."NAME"] with its url',
    "model_type": 'a table is wanted: [upstreams."NAME"] with its url',
    "missing": "a value is wanted",
}


# A refused url that holds no user, password, or query, which may be a token.
_HARMLESS = re.compile(r"[\w:/.-]*", re.ASCII)


def _in_words(error: ValidationError) -> str:
    """Say the first thing that is wrong: the key, the value, what is allowed."""
    first = error.errors()[0]
    place = first["loc"]
    parts = (str(part) for part in place if part != "[key]")  # pydantic's, of a table's key
    key = " ".join(".".join(parts).split()) or "configuration"
    if first["type"] == "extra_forbidden":
        models: dict[str, type[BaseModel]] = {"upstreams": Upstream, "clients": Client}
        model = models.get(str(place[0]), Settings)
        return f"unknown key {key}; known are {', '.join(sorted(model.model_fields))}"
    message = _WANTED.get(first["type"], first["msg"].removeprefix("Value error, "))
    value = first["input"]
    # What stands where a password may stand, or holds what looks like one, is not repeated.
    private = place[:1] == ("clients",) or (
        place[:1] == ("upstreams",) and (place[-1] != "url" or not _HARMLESS.fullmatch(str(value)))
    )
    if isinstance(value, dict) or (private and not isinstance(value, int | float)):
        return f"{key}: {message}"
    return f"{key} is {value!r}: {message}"
