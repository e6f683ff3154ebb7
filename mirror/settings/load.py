"""Where the values come from: flags, environment, secrets, a file; and what is wrong with them."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsError,
)

from mirror.settings.keys import PREFIX, Settings
from mirror.settings.values import ConfigurationError
from mirror.settings.wrong import faults, not_json, unknown, unquoted

_NOT_KEYS = frozenset({"CONFIG", "SECRETS_DIR"})


def load(flags: Mapping[str, object] | None = None, file: Path | None = None) -> Settings:
    """Read flags over environment over secrets over file over defaults.

    Raises ConfigurationError.
    """
    _refuse_unknown_variables()
    from_file = _read_file(_chosen(file))
    secrets = _secrets_folder()
    for told in unquoted(from_file.get("upstreams")):
        raise ConfigurationError(told)

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
        _refuse_odd_secrets(secrets)
        return Loaded(**dict(flags or {}))  # type: ignore[arg-type]
    except ValidationError as error:
        raise ConfigurationError(faults(error)[0]) from None
    except SettingsError as error:  # of a variable or secret that is not JSON
        raise ConfigurationError(not_json(error)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"a secret in {secrets} cannot be read: {error}") from None


def data_dir(flags: Mapping[str, object] | None = None, file: Path | None = None) -> Path:
    """Return the data folder, though all else that is configured may be wrong.

    What is bad may be for a running mirror to say: it may have secrets that others have not.
    Raises ConfigurationError where it cannot be told.
    """
    try:
        return load(flags, file).data_dir
    except ConfigurationError:
        named = (flags or {}).get("data_dir") or os.environ.get(f"{PREFIX}DATA_DIR")
        named = named or _read_file(_chosen(file)).get("data_dir")
        if not isinstance(named, str):
            raise
        return Path(named).expanduser()


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


# What Kubernetes tells each container of a Service whose name begins with `mirror`.
_OF_A_SERVICE = re.compile(
    r"MIRROR_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)


def _is_of_a_service(variable: str, value: str) -> bool:
    port = variable.endswith("_PORT") and "://" in value
    return port or _OF_A_SERVICE.fullmatch(variable) is not None


def _refuse_unknown_variables() -> None:
    """Refuse what pydantic-settings passes over: a misspelt variable would do nothing."""
    known = {name.upper() for name in Settings.model_fields} | _NOT_KEYS
    for variable, value in os.environ.items():
        name = variable.upper().removeprefix(PREFIX)
        nested = name.startswith(("UPSTREAMS__", "CLIENTS__"))
        if not variable.upper().startswith(PREFIX) or name in known or nested:
            continue
        if not _is_of_a_service(variable.upper(), value):
            names = {PREFIX + key for key in known}
            raise ConfigurationError(unknown(variable, names, what="unknown environment variable"))


def _refuse_odd_secrets(folder: str | None) -> None:
    """Refuse secrets that nothing reads, and empty ones; others' files are none of ours."""
    if folder is None:
        return
    known = {PREFIX.lower() + name for name in Settings.model_fields}
    for file in sorted(Path(folder).glob(f"{PREFIX.lower()}*")):
        if file.name.split("__")[0] not in known:
            raise ConfigurationError(unknown(file.name, known, what=f"unknown secret in {folder}"))
        if file.is_file() and not file.read_bytes().strip():
            raise ConfigurationError(f"{file.name}: the secret in {folder} is empty")
