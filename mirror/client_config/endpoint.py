"""The mirror as clients reach it, and the names under which their files speak of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from yarl import URL

from mirror.oci.names import HUB
from mirror.settings import HUB_URL, Settings
from mirror.web.router import RepositoryPath, Router

Files: TypeAlias = dict[str, str]  # contents, by path in the client's own folder

HEAD = "# Written by `mirror client-config`.\n"
CA_FILE = "mirror-ca.crt"  # for clients with a key for a CA's file


@dataclass(frozen=True, slots=True)
class ClientEndpoint:
    """The mirror's address for clients: `url` is scheme, host and port.

    `ca` is the CA of its certificate, in PEM; empty where clients trust it already. With `only`,
    clients use no other registry: a refusal by the mirror is final. `registries` has, in PEM, the
    CAs of upstreams that have their own.
    """

    url: str
    ca: str = ""
    only: bool = False
    registries: Mapping[str, str] = field(default_factory=dict)

    @property
    def authority(self) -> str:
        """Host and port, for clients that take no scheme."""
        return authority(self.url)

    def trust(self, path: str) -> Files:
        """Return the CA as a client's file, if there is one."""
        return {path: self.ca} if self.ca else {}

    def url_of(self, upstream: str, settings: Settings) -> str | None:
        """Return the URL at which the mirror is this upstream, for clients that name no registry.

        None if it is at none.
        """
        mirror_url = URL(self.url)
        router = Router(settings.upstreams, settings.default_upstream, settings.hosts())
        route = router.read("/v2/a/b/tags/list", mirror_url.authority)
        if isinstance(route, RepositoryPath) and route.repository.upstream == upstream:
            return self.url
        for host in settings.upstreams[upstream].hosts:
            port = mirror_url.explicit_port if URL(f"//{host}").explicit_port is None else None
            return f"{mirror_url.scheme}://{host}" + (f":{port}" if port else "")
        return None


def registry_url(upstream: str, settings: Settings) -> str:
    """Return the URL of a registry for clients that fall back to it."""
    if upstream == HUB:
        return HUB_URL
    url = settings.upstreams[upstream].url
    return f"{URL(url).scheme if is_at(url, upstream) else 'https'}://{upstream}"


def is_at(url: str, name: str) -> bool:
    """Whether a URL leads to the host that a registry's name means, at the same port."""
    there = URL(url)
    short = there.host_subcomponent or ""
    return name == f"{short}:{there.port}" or (name == short and there.is_default_port())


def authority(url: str) -> str:
    """Return the host and port of a URL without a path."""
    return url.partition("://")[2]


def quoted(text: str) -> str:
    """Quote ASCII for JSON, TOML, and YAML."""
    return json.dumps(text)
