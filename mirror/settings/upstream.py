"""The keys of `[upstreams.NAME]`, about one registry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from mirror.identity.client import Private
from mirror.oci.login_methods import METHODS, Auth
from mirror.oci.names import HUB_WINDOW
from mirror.settings.measures import Seconds, Size
from mirror.settings.values import (
    FilePath,
    Hosts,
    Number,
    Origins,
    PatternList,
    ProxyUrl,
    Pulls,
    RepositoryPath,
    Url,
)


class Upstream(BaseModel):
    """One registry to mirror."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Url = Field(description="The registry's address.")
    repository_prefix: RepositoryPath = Field(
        "", description="A project that stands before each repository's name at this registry."
    )
    username: str = Field("", description="The account to pull with; anonymous without one.")
    password: SecretStr = Field(SecretStr(""), description="Its password or access token.")
    password_file: FilePath | None = Field(None, description="A file that holds the password.")
    auth: Auth = Field("auto", description="How to log in.")
    docker_config: FilePath | None = Field(
        None, description="A config.json to take this registry's credentials from."
    )
    realms: Origins = Field(
        (),
        description="Token servers' origins that may see the credentials, too.",
    )
    hosts: Hosts = Field((), description="Host headers that mean this upstream.")
    allow: PatternList = Field(("**",), description="Repositories that may be read.")
    deny: PatternList = Field(
        (),
        description="Repositories that may not be read, even if allow has them; "
        "clients that can reach the registry themselves are not bound.",
    )
    private: Private = Field(
        "authenticated",
        description="The clients that may read content that upstream restricts to the account.",
    )
    ca_file: FilePath | None = Field(
        None, description="The CA of its certificate, in addition to the system's CAs."
    )
    client_cert: FilePath | None = Field(
        None, description="A certificate that the mirror shows to it, in PEM, with its chain."
    )
    client_key: FilePath | None = Field(None, description="The certificate's key, in PEM.")
    proxy: ProxyUrl | None = Field(
        None, description="A proxy for this upstream, in place of the environment's."
    )
    max_connections: Annotated[int, Number, Field(ge=2, le=10_000)] = Field(
        256, description="Connections to it at a time; further requests wait."
    )
    max_rate: Size = Field(0, description="Bytes a second of blobs taken from it; 0: any number.")
    pull_limit: Annotated[int, Number, Field(ge=1, le=10**9)] | None = Field(
        None, description="Pulls it allows per window, if it does not announce a limit itself."
    )
    pull_window: Annotated[Seconds, Field(ge=60)] = Field(
        HUB_WINDOW, description="The window of its pull limit, if it does not announce that itself."
    )
    reserve: Pulls = Field(
        0,
        description="Pulls of each window kept for reserved_for; "
        "clients that can reach the registry themselves are not bound.",
    )
    reserved_for: PatternList = Field(
        (), description="Repositories that may spend the reserve, such as library/* or org/**."
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Upstream:
        found = [*self._odd_account(), *self._odd_method(), *self._odd_link()]
        if bool(self.reserve) != bool(self.reserved_for):
            found.append("reserve and reserved_for go together")
        if found:
            raise ValueError("\n".join(found))
        return self

    def _odd_account(self) -> Iterator[str]:
        if self.password_file is not None and self.password.get_secret_value():
            yield "password and password_file are both given: set only one"
        elif bool(self.username) != bool(self.password.get_secret_value() or self.password_file):
            yield "username and password (or password_file) go together"
        if ":" in self.username:  # RFC 7617, 2: the password begins behind the first
            yield "expected a username without a colon"
        if self.username and self.docker_config:
            yield "username and docker_config are both given: set only one"

    def _odd_link(self) -> Iterator[str]:
        if (self.client_cert is None) != (self.client_key is None):
            yield "client_cert and client_key go together"
        proxy = self.proxy.get_secret_value() if self.proxy else ""
        if self.client_cert and urlsplit(proxy).scheme == "https":
            # aiohttp uses one TLS context for both.
            yield "client_cert would be shown to the proxy, too: expected http://…"

    @property
    def account_name(self) -> str:
        """The account for pulls, in a word known at the start; "" for none."""
        cloud = self.auth if METHODS[self.auth].cloud else ""
        return self.username or str(self.docker_config or cloud)

    def _odd_method(self) -> Iterator[str]:
        """Find an account that `auth` does not use, or a missing account that it needs."""
        own = bool(self.username or self.docker_config)
        method = METHODS[self.auth]
        if own and not method.uses(self.username):
            yield f"an account is given, which auth = {self.auth!r} does not use"
        if not own and method.account == "wanted":
            yield f"auth = {self.auth!r} needs an account or docker_config"
