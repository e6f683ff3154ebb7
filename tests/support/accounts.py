"""Upstreams with an account, as tests configure them, and the files that have accounts."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from mirror.upstream.auth.credentials import Credentials
from mirror.upstream.auth.docker_config import DockerConfigFile
from tests.standin import Hub

WORD = "s3cret-word"  # must never be printed
INDEX = "https://index.docker.io/v1/"


def upstream(hub: Hub, **keys: object) -> dict[str, object]:
    """Return the settings of the hub as the one upstream, open to all clients."""
    return {"docker.io": {"url": hub.url, "private": "everyone", **keys}}


def basic(user: str, password: str = WORD) -> dict[str, str]:
    """Return an entry as `docker login` writes it."""
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def put(config: Path, document: object) -> None:
    """Write a config.json."""
    config.write_text(json.dumps(document))


async def found(
    config: Path, document: object, *hosts: str, repository: str = "a/b"
) -> Credentials:
    """Return the credentials in a document for a repository of the registry with these names."""
    put(config, document)
    source = DockerConfigFile(config, hosts)
    return (await source.read(source.path(repository))).credentials
