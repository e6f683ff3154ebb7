"""The keys of the configuration, and their defaults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from mirror.identity.client import is_client_name
from mirror.oci.names import HUB
from mirror.settings.client import Client
from mirror.settings.measures import Bound, MaxPinned, MaxSize, Patience, PinnedPart, Seconds, Size
from mirror.settings.schedule import Schedule
from mirror.settings.upstream import Upstream
from mirror.settings.values import (
    Address,
    ClientName,
    ClientNames,
    FilePath,
    Hosts,
    ListenAddress,
    Networks,
    Number,
    Party,
    PartysShare,
    PatternList,
    UpstreamName,
)

PREFIX = "MIRROR_"
HUB_URL = "https://registry-1.docker.io"


class Settings(BaseSettings):
    """All keys. Durations are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix=PREFIX, env_nested_delimiter="__"
    )

    listen: ListenAddress = Field(
        Address("127.0.0.1", 5000), description="The address and port to listen on."
    )
    listen_metrics: ListenAddress | None = Field(
        None, description="The address and port of /metrics; without it, the address of clients."
    )
    admin_listen: ListenAddress | None = Field(
        None,
        description="The address and port of the page and the API; without it, that of clients.",
    )
    admin_hosts: Hosts = Field(
        (), description="More names by which browsers reach the page and the API."
    )
    host_names: Hosts = Field(
        (),
        description="The only names by which clients may reach the mirror; without any, all names.",
    )
    trusted_proxies: Networks = Field(
        (), description="Proxies before the mirror that may name the addresses of their clients."
    )
    proxy_protocol: bool = Field(
        False, description="Whether trusted_proxies begin each connection with a PROXY preamble."
    )
    tls_cert: FilePath | None = Field(
        None, description="A certificate with its chain, in PEM: TLS is served with it."
    )
    tls_key: FilePath | None = Field(
        None, description="The certificate's key, in PEM, without a password."
    )
    client_ca: FilePath | None = Field(
        None, description="The CA that must have signed the certificates of clients, in PEM."
    )
    data_dir: FilePath = Field(Path("data"), description="The folder for blobs and their index.")
    max_size: MaxSize = Field(
        Bound(50 * 1024**3),
        description="Bytes stored at most: blobs, partial downloads, and the index.",
    )
    max_pinned: MaxPinned = Field(
        PinnedPart(50), description="The part of max_size that pinned images may take."
    )
    tag_ttl: Seconds = Field(60, description="How long a tag is served without asking upstream.")
    tag_refresh_ahead: Seconds = Field(
        600,
        description="How long after its last request a tag in use is kept fresh by HEADs before "
        "it ends; 0: not at all.",
    )
    missing_ttl: Seconds = Field(
        10, description="How long a missing tag, manifest or blob is remembered as missing."
    )
    stale_after: Seconds = Field(
        2.5, description="How long a client waits for upstream before it gets a stale tag."
    )
    memory_cache: Size = Field(
        16 * 1024**2, description="Bytes of manifests and small blobs kept in memory."
    )
    max_fetches: Annotated[int, Number, Field(ge=1, le=100)] = Field(
        48, description="Blobs fetched from upstream at the same time; further fetches wait."
    )
    abandon_after: Seconds = Field(
        10, description="How long a large fetch goes on after its last client has left."
    )
    shutdown_grace: Seconds = Field(
        20, description="How long running transfers may go on after SIGTERM."
    )
    max_stale: Seconds = Field(
        3600, description="How long a changed tag keeps its old content while few pulls are left."
    )
    limit_check: Seconds = Field(
        900,
        description="How old upstream's last figure of its limit may get; 0: it is never asked.",
    )
    ledger_keep: Seconds = Field(
        30 * 86400, description="How long counted pulls stay in the ledger."
    )
    connect_timeout: Patience = Field(10, description="How long connecting to upstream may take.")
    answer_timeout: Patience = Field(
        15, description="How long upstream may take to answer, logins and retries included."
    )
    silence_timeout: Patience = Field(
        30, description="How long upstream may send nothing in the middle of a body."
    )
    resume_timeout: Seconds = Field(
        30, description="How long the mirror tries to resume a body that broke off."
    )
    max_connections: Annotated[int, Number, Field(ge=1)] = Field(
        10_000, description="Connections of clients; beyond it, the one idle for longest is closed."
    )
    client_connections: Annotated[int, Number, Field(ge=0)] = Field(
        256,
        description="Connections of one client address; beyond it, its idle ones are closed; "
        "0: any number.",
    )
    idle_timeout: Seconds = Field(
        75, description="How long a connection may be without a complete request."
    )
    client_timeout: Seconds = Field(
        60, description="How long a client may read nothing of its answer."
    )
    log_format: Literal["text", "json"] = Field("text", description="How log lines are written.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least important lines that are written, beside the access log."
    )
    htpasswd: FilePath | None = Field(
        None, description="A file of client users, their passwords hashed by bcrypt."
    )
    operators: ClientNames = Field(
        (), description="The logins that see names on the page and in the API, and may act there."
    )
    challenge: bool = Field(
        False, description="Whether clients are asked to log in, and get nothing without a login."
    )
    anonymous: PatternList = Field(
        ("**",), description="Repositories that may be read without a login."
    )
    client_rate: Annotated[float, Number, Field(ge=0, le=1e6)] = Field(
        0,
        description="Requests a second accepted from one client, over ten seconds; 0: any number.",
    )
    clients: dict[ClientName, Client] = Field(
        default_factory=dict, description="Clients that log in with a token."
    )
    shares: dict[Party, PartysShare] = Field(
        default_factory=dict,
        description="The most that clients may spend of each pull limit, by address or name; "
        "clients that can reach the registry themselves are not bound.",
    )
    upstreams: dict[UpstreamName, Upstream] = Field(
        default_factory=dict, description="The registries to mirror, by the name images use."
    )
    schedules: tuple[Schedule, ...] = Field((), description="Images to warm at certain times.")
    default_upstream: UpstreamName = Field(
        HUB, description="The upstream of a request that names none."
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Settings:
        found = [*self._odd_tls(), *self._odd_preambles(), *self._odd_logins(), *self._odd_images()]
        if found:
            raise ValueError("\n".join(found))
        return self

    def _odd_tls(self) -> Iterator[str]:
        if (self.tls_cert is None) != (self.tls_key is None):
            yield "tls_cert and tls_key go together"
        elif self.client_ca is not None and self.tls_cert is None:
            yield "client_ca needs tls_cert and tls_key"

    def _odd_preambles(self) -> Iterator[str]:
        if self.proxy_protocol and not self.trusted_proxies:
            yield "proxy_protocol needs trusted_proxies: the senders of preambles"

    def _odd_logins(self) -> Iterator[str]:
        """Find keys for clients that log in, if no client can."""
        tokens = [token for each in self.clients.values() if (token := each.token)]
        if len(set(tokens)) < len(tokens):
            yield "clients: two have the same token"
        if self.htpasswd or self.client_ca or tokens:
            yield from self._odd_operators()
            return
        if self.operators:
            yield "operators needs htpasswd, client_ca, or the token of a client"
        if self.challenge:
            yield "challenge needs htpasswd, client_ca, or the token of a client"
        if "**" not in self.anonymous:
            yield "anonymous needs htpasswd, client_ca, or the token of a client"
        for name in (*self.clients, *filter(is_client_name, self.shares)):
            table = "clients" if name in self.clients else "shares"
            yield (
                f"{table}.{name} is the name of a client, but none can log in: set htpasswd, "
                "client_ca, or the token of a client"
            )

    def _odd_operators(self) -> Iterator[str]:
        """Find operators that cannot log in, if only tokens can."""
        if self.htpasswd or self.client_ca:
            return
        for name in self.operators:
            if name not in self.clients or not self.clients[name].token:
                yield f"operators has {name!r}, which cannot log in: it has no token in clients"

    def _odd_images(self) -> Iterator[str]:
        """Find images of schedules that are of no upstream."""
        known = ", ".join(sorted(self.upstreams))
        for number, schedule in enumerate(self.schedules):
            for image in schedule.names():
                if image.repository.upstream not in self.upstreams:
                    yield (
                        f"schedules.{number}.images has '{image}', which is of no upstream: "
                        f"expected images of {known}"
                    )

    @model_validator(mode="before")
    @classmethod
    def _know_the_hub(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Add Docker Hub to the upstreams."""
        upstreams = values.get("upstreams", {})
        hub = upstreams.get(HUB, {}) if isinstance(upstreams, dict) else None
        if not isinstance(hub, dict):
            return values
        return {**values, "upstreams": {**upstreams, HUB: {"url": HUB_URL, **hub}}}

    @field_validator("upstreams")
    @classmethod
    def _tell_hosts_apart(cls, upstreams: dict[str, Upstream]) -> dict[str, Upstream]:
        taken: dict[str, str] = {}
        for name, upstream in upstreams.items():
            for host in upstream.hosts:
                if taken.setdefault(host, name) != name:
                    raise ValueError(f"hosts has {host!r} for both {taken[host]} and {name}")
        return upstreams

    @field_validator("default_upstream")
    @classmethod
    def _default_to_one_of_them(cls, name: str, info: ValidationInfo) -> str:
        upstreams = info.data.get("upstreams", {name})  # missing if it is refused itself
        if name not in upstreams:
            known = ", ".join(sorted(upstreams))
            raise ValueError(f"expected one of the upstreams: {known}")
        return name

    def hosts(self) -> dict[str, str]:
        """Return the upstreams, by Host header."""
        return {host: name for name, each in self.upstreams.items() for host in each.hosts}
