"""What can be configured: keys, defaults, and where their values come from."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NestedSecretsSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from mirror.cache.account import Terms
from mirror.cache.shares import EACH, Share, Shares
from mirror.cache.window import HUB_WINDOW
from mirror.oci.names import HUB
from mirror.oci.patterns import Patterns, check_pattern
from mirror.upstream.auth.credentials import read_password
from mirror.upstream.auth.google import KEY_USERS
from mirror.upstream.auth.sources import Auth

PREFIX = "MIRROR_"
HUB_URL = "https://registry-1.docker.io"
_NOT_KEYS = frozenset({"CONFIG", "SECRETS_DIR"})


class ConfigurationError(Exception):
    """The configuration cannot be used; the message names the key, the value, what is allowed."""


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _address(value: object) -> Address:
    host, colon, port = str(value).rpartition(":")
    if not colon or not _is_number(port) or int(port) > 65535 or (":" in host and "[" not in host):
        raise ValueError("host:port is wanted, such as 127.0.0.1:5000, [::]:5000 or :5000")
    return Address(host.strip("[]"), int(port))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _path(value: object) -> Path:
    text = str(value)
    if not isinstance(value, str | Path) or not text or "\0" in text:
        raise ValueError("a path is wanted")
    return Path(text)


def parse_size(value: object) -> int:
    """Read bytes, with or without a suffix; raises ValueError."""
    try:
        size = TypeAdapter(ByteSize).validate_python(value)
    except ValidationError:
        size = ByteSize(-1)
    if size < 0 or isinstance(value, bool):
        raise ValueError("bytes are wanted, with or without a suffix, such as 50GiB or 800MB")
    return size


def _seconds(value: object) -> float:
    try:
        seconds = -1.0 if isinstance(value, bool) else float(str(value))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise ValueError("seconds are wanted, such as 60 or 2.5")
    return seconds


def _url(value: object) -> str:
    if not _plain_url(str(value)):
        raise ValueError(
            "http://host[:port] or https://host[:port] is wanted, a path may follow; "
            "username and password have keys of their own"
        )
    return str(value).rstrip("/")


def _plain_url(text: str) -> bool:
    if not text.isascii() or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return False
    return bool(whole) and not (parts.username or parts.password or parts.query or parts.fragment)


def _origins(value: object) -> tuple[str, ...]:
    given = _listed(value)
    for each in given:
        if not _plain_url(each) or urlsplit(each).path not in ("", "/"):
            raise ValueError("origins are wanted, such as https://auth.example:8443")
    return tuple(each.rstrip("/") for each in given)


def _listed(value: object) -> list[str]:
    """Read a list; in a variable it is JSON's, or has commas."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = [each.strip() for each in str(value).split(",") if each.strip()]
    return [str(each) for each in value] if isinstance(value, list | tuple) else [str(value)]


def _pattern(value: object) -> str:
    return check_pattern(str(value))


def _share(value: object) -> Share:
    text = str(value)
    if isinstance(value, Share):
        return value
    if not isinstance(value, bool) and _is_number(text) and int(text) > 0:
        return Share(int(text))
    try:
        percent = float(text.removesuffix("%")) if text.endswith("%") else 0.0
    except ValueError:
        percent = 0.0
    if not 0 < percent <= 100:
        raise ValueError('a number of pulls or a part of the limit is wanted, such as 20 or "25%"')
    return Share(percent=percent)


def _party(value: object) -> str:
    try:
        return EACH if value == EACH else str(ip_network(str(value)))
    except ValueError:
        raise ValueError(
            f'{value!r}: an address, a network such as 10.0.0.0/8, or "*" is wanted'
        ) from None


Size = Annotated[int, BeforeValidator(parse_size)]
Seconds = Annotated[float, BeforeValidator(_seconds)]
Party = Annotated[str, BeforeValidator(_party)]
PartysShare = Annotated[Share, BeforeValidator(_share)]
Pulls = Annotated[int, Field(ge=0, le=10**9)]


class Upstream(BaseModel):
    """One registry to mirror."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[str, BeforeValidator(_url)] = Field(description="The registry's address.")
    username: str = Field("", description="The account to pull with; anonymous without one.")
    password: SecretStr = Field(SecretStr(""), description="Its password or access token.")
    password_file: Annotated[Path, BeforeValidator(_path)] | None = Field(
        None, description="A file that holds the password."
    )
    auth: Auth = Field("auto", description="How to log in.")
    docker_config: Annotated[Path, BeforeValidator(_path)] | None = Field(
        None, description="A config.json to take this registry's credentials from."
    )
    realms: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_origins)] = Field(
        (),
        description="Token servers' origins that may see the credentials, too.",
    )
    pull_limit: Annotated[int, Field(ge=1, le=10**9)] | None = Field(
        None, description="Pulls it allows per window, if it does not say so itself."
    )
    pull_window: Annotated[Seconds, Field(ge=60)] = Field(
        HUB_WINDOW, description="The window of its pull limit, if it does not say so itself."
    )
    reserve: Pulls = Field(0, description="Pulls of each window kept for reserved_for.")
    reserved_for: tuple[Annotated[str, BeforeValidator(_pattern)], ...] = Field(
        (), description="Repositories that may spend the reserve, such as library/* or org/**."
    )

    @model_validator(mode="after")
    def _complete(self) -> Upstream:
        if self.password_file is not None and self.password.get_secret_value():
            raise ValueError("password and password_file are both given: one is wanted")
        if bool(self.username) != bool(self.password.get_secret_value() or self.password_file):
            raise ValueError("username and password (or password_file) go together")
        if ":" in self.username:  # RFC 7617, 2: the password begins behind the first
            raise ValueError("a username without a colon is wanted")
        if self.username and self.docker_config:
            raise ValueError("username and docker_config are both given: one is wanted")
        self._fit()
        if bool(self.reserve) != bool(self.reserved_for):
            raise ValueError("reserve and reserved_for go together")
        return self

    @property
    def whose(self) -> str:
        """Whose account it is pulled with, in a word known at the start; none if nobody's."""
        cloud = self.auth in ("ecr", "ecr-public", "google", "azure")
        file = self.docker_config
        return self.username or (str(file) if file else self.auth if cloud else "")

    def _fit(self) -> None:
        """Refuse an account where `auth` has no use for one, and none where it wants one."""
        own = bool(self.username or self.docker_config)
        if own and self.auth == "google" and self.username in KEY_USERS:
            return
        if own and self.auth in ("anonymous", "ecr", "ecr-public", "google", "azure"):
            raise ValueError(f"an account is given, which auth = {self.auth!r} does not use")
        if not own and self.auth in ("basic", "acr"):
            raise ValueError(f"auth = {self.auth!r} wants an account or docker_config")

    def secret(self) -> str:
        """Return the password; raises ConfigurationError where its file cannot be read."""
        if self.password_file is None:
            return self.password.get_secret_value()
        try:
            return read_password(self.password_file)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"password_file {self.password_file}: cannot be read: {error}"
            ) from None


class Settings(BaseSettings):
    """All keys. Durations are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix=PREFIX, env_nested_delimiter="__"
    )

    listen: Annotated[Address, NoDecode, BeforeValidator(_address)] = Field(
        Address("127.0.0.1", 5000), description="The address and port to listen on."
    )
    data_dir: Annotated[Path, BeforeValidator(_path)] = Field(
        Path("data"), description="The folder for blobs and their index."
    )
    max_size: Size = Field(
        50 * 1024**3, description="Bytes kept at most: blobs, partial downloads, and the index."
    )
    tag_ttl: Seconds = Field(60, description="How long a tag is served without asking upstream.")
    missing_ttl: Seconds = Field(
        10, description="How long a missing tag, manifest or blob is remembered as missing."
    )
    stale_after: Seconds = Field(
        2.5, description="How long a client waits for upstream before it gets a stale tag."
    )
    memory_cache: Size = Field(
        16 * 1024**2, description="Bytes of manifests and small blobs kept in memory."
    )
    max_fetches: Annotated[int, Field(ge=1, le=100)] = Field(
        48, description="Blobs fetched from upstream at the same time; more wait."
    )
    abandon_after: Seconds = Field(
        10, description="How long a large fetch goes on after its last client has left."
    )
    shutdown_grace: Seconds = Field(
        20, description="How long running transfers may go on after SIGTERM."
    )
    max_stale: Seconds = Field(
        3600, description="How long a changed tag may be served as it was while few pulls are left."
    )
    limit_check: Seconds = Field(
        900, description="How old upstream's word on its pull limit may get; 0 never asks for it."
    )
    ledger_keep: Seconds = Field(
        30 * 86400, description="How long counted pulls stay in the ledger."
    )
    connect_timeout: Seconds = Field(10, description="How long connecting to upstream may take.")
    answer_timeout: Seconds = Field(
        15, description="How long upstream may take to answer, logins and retries included."
    )
    silence_timeout: Seconds = Field(
        30, description="How long upstream may send nothing in the middle of a body."
    )
    resume_timeout: Seconds = Field(
        30, description="How long a body that broke off is tried to be resumed."
    )
    max_connections: Annotated[int, Field(ge=1)] = Field(
        10_000, description="Connections of clients; beyond it, the longest idle makes room."
    )
    idle_timeout: Seconds = Field(
        75, description="How long a connection may be without a whole request."
    )
    client_timeout: Seconds = Field(
        60, description="How long a client may take nothing of what it is sent."
    )
    log_format: Literal["text", "json"] = Field("text", description="How log lines are written.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least important lines that are written, beside the access log."
    )
    shares: dict[Party, PartysShare] = Field(
        default_factory=dict,
        description="The most that clients may spend of each pull limit, by address or network.",
    )
    upstreams: dict[str, Upstream] = Field(
        default_factory=dict, description="The registries to mirror, by the name images use."
    )

    @model_validator(mode="before")
    @classmethod
    def _know_the_hub(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Have Docker Hub among the upstreams, whatever else is."""
        upstreams = values.get("upstreams", {})
        hub = upstreams.get(HUB, {}) if isinstance(upstreams, dict) else None
        if not isinstance(hub, dict):
            return values
        return {**values, "upstreams": {**upstreams, HUB: {"url": HUB_URL, **hub}}}

    def budgets(self) -> dict[str, Terms]:
        """Return what is said of each upstream's pull budget."""
        shares = Shares(self.shares)
        return {
            name: Terms(
                upstream.whose,
                upstream.pull_limit,
                upstream.pull_window,
                upstream.reserve,
                Patterns(upstream.reserved_for),
                shares,
                self.max_stale,
            )
            for name, upstream in self.upstreams.items()
        }


def load(flags: Mapping[str, object] | None = None, file: Path | None = None) -> Settings:
    """Read flags over environment over secrets over file over defaults.

    Raises ConfigurationError.
    """
    _refuse_unknown_variables()
    if file is None and os.environ.get(PREFIX + "CONFIG"):
        file = Path(os.environ[PREFIX + "CONFIG"])
    from_file = _read_file(file)
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
        nested = name.startswith("UPSTREAMS__")
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
    key = " ".join(".".join(str(part) for part in place).split()) or "configuration"
    if first["type"] == "extra_forbidden":
        model = Upstream if place[0] == "upstreams" else Settings
        return f"unknown key {key}; known are {', '.join(sorted(model.model_fields))}"
    message = _WANTED.get(first["type"], first["msg"].removeprefix("Value error, "))
    value = first["input"]
    # What stands where a password may stand, or holds what looks like one, is not repeated.
    private = place[:1] == ("upstreams",) and (
        place[-1] != "url" or not _HARMLESS.fullmatch(str(value))
    )
    if isinstance(value, dict) or (private and not isinstance(value, int | float)):
        return f"{key}: {message}"
    return f"{key} is {value!r}: {message}"
