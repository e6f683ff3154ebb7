"""The servers: the hub, the mirror and docker-registry, each as its user runs it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

from bench.client import Connection
from bench.processes import Failed, Process, free_port

CHECKOUT = Path(__file__).parent.parent
_QUIET_WITHIN = 60.0  # seconds

# Debian's /etc/docker/registry/config.yml, without the login and with a place to pull from.
_REGISTRY_CONFIG = """\
version: 0.1
log:
  fields:
    service: registry
storage:
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: {data}
  delete:
    enabled: true
http:
  addr: 127.0.0.1:{port}
  headers:
    X-Content-Type-Options: [nosniff]
health:
  storagedriver:
    enabled: true
    interval: 10s
    threshold: 3
proxy:
  remoteurl: {hub}
"""
_REGISTRY_TLS = """\
  tls:
    certificate: {pair.cert}
    key: {pair.key}
"""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, as files, for servers that speak TLS."""

    cert: Path
    key: Path


def make_pair(folder: Path) -> Pair:
    """Make a pair for the loopback."""
    issued = trustme.CA().issue_cert("127.0.0.1")
    pair = Pair(folder / "server.pem", folder / "server.key")
    pair.cert.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    pair.key.write_bytes(issued.private_key_pem.bytes())
    return pair


@dataclass(frozen=True, slots=True)
class Image:
    """What the hub holds of an image: where it is, and the digests of its parts."""

    repository: str
    digest: str
    config: str
    layers: tuple[str, ...]

    @property
    def by_tag(self) -> str:
        """The path of its manifest by tag."""
        return f"/v2/{self.repository}/manifests/latest"

    @property
    def by_digest(self) -> str:
        """The path of its manifest by digest."""
        return f"/v2/{self.repository}/manifests/{self.digest}"

    def blob(self, digest: str) -> str:
        """Return the path of one of its blobs."""
        return f"/v2/{self.repository}/blobs/{digest}"


class Hub:
    """The stand-in of Docker Hub, in a process of its own."""

    name = "hub"

    def __init__(self, process: Process, url: str, images: dict[str, Image]) -> None:
        self.process = process
        self.url = url
        self.images = images

    def bodies(self, digest: str) -> int:
        """Count the bodies of a blob that were begun."""
        return int(self._stats()["bodies"].get(digest, 0))

    def forget(self) -> None:
        """Count anew."""
        with Connection(self.url) as connection:
            connection.drain(connection.ask("POST", "/_standin/reset", {"Content-Length": "0"}))

    def quiet(self) -> None:
        """Wait until it answers nobody: what a proxy still fetches would disturb the next."""
        until = time.perf_counter() + _QUIET_WITHIN
        while self._stats()["under_way"]:
            if time.perf_counter() > until:
                raise Failed(f"the hub is not quiet after {_QUIET_WITHIN:.0f} s")
            time.sleep(0.02)

    def _stats(self) -> dict[str, Any]:
        with Connection(self.url) as connection:
            stats: dict[str, Any] = json.loads(
                connection.read(connection.ask("GET", "/_standin/stats"))
            )
            return stats


@dataclass(frozen=True, slots=True)
class Server:
    """One that stands in front of the hub; `ready` is how many seconds its start took."""

    name: str
    process: Process
    url: str
    ready: float


def start_hub(
    stack: ExitStack,
    folder: Path,
    images: Sequence[str],
    rate: float | None = None,
    *,
    plain: bool = False,
) -> Hub:
    """Start a hub that holds `images`; `rate` in bytes per second bounds all it sends.

    A `plain` one wants no tokens, and sends blobs itself.
    """
    folder.mkdir()
    command = [sys.executable, "-m", "tests.standin", "--folder", str(folder)]
    command += ["--rate", f"{rate:.0f}"] if rate else []
    command += ["--no-auth", "--no-redirect"] if plain else []
    process = _start(stack, "hub", [*command, "--images", *images], folder, CHECKOUT)
    description = json.loads(process.first_line())
    return Hub(
        process, description["url"], {each.repository: each for each in _images(description)}
    )


def start_mirror(stack: ExitStack, folder: Path, hub: str, tls: Pair | None = None) -> Server:
    """Start the mirror on the data in `folder`, which is made if need be."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    command = [mirror_command(), "serve", "--listen", f"127.0.0.1:{port}"]
    command += ["--data-dir", str(folder / "data"), "--upstream", f"docker.io={hub}"]
    command += ["--tls-cert", str(tls.cert), "--tls-key", str(tls.key)] if tls else []
    process = _start(stack, "mirror", command, folder)
    url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    return Server("mirror", process, url, process.ready(url, "/readyz"))


def start_registry(
    stack: ExitStack,
    folder: Path,
    hub: str,
    tls: Pair | None = None,
    program: str = "docker-registry",
    name: str = "docker-registry",
) -> Server:
    """Start docker-registry, or another of its kind, as a pull-through proxy on an empty folder."""
    folder.mkdir()
    port = free_port()
    config = folder / "config.yml"
    text = _REGISTRY_CONFIG.format(data=folder / "data", port=port, hub=hub)
    if tls:
        text = text.replace("http:\n", "http:\n" + _REGISTRY_TLS.format(pair=tls), 1)
    config.write_text(text)
    process = _start(stack, name, [program, "serve", str(config)], folder)
    url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    return Server(name, process, url, process.ready(url, "/v2/"))


def mirror_command() -> str:
    """Return the mirror's command of the environment we run in."""
    return str(Path(sys.executable).with_name("mirror"))


def _start(
    stack: ExitStack, name: str, command: Sequence[str], folder: Path, within: Path | None = None
) -> Process:
    process = Process(name, command, folder, within)
    stack.callback(process.stop)
    return process


def _images(description: dict[str, Any]) -> list[Image]:
    return [
        Image(
            each["repository"],
            each["digest"],
            each["config"],
            tuple(blob["digest"] for blob in each["blobs"] if blob["digest"] != each["config"]),
        )
        for each in description["images"]
    ]
