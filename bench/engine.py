"""The engine: pulls an image as a container engine does, and throws it away."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from bench.client import Connection, Refused, Reply

ACCEPT = (
    "application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json"
)
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Pull:
    """An image that was pulled: times in seconds, size of all its blobs in bytes.

    `layer_byte` is from asking for the first layer to the first byte of it, `image_byte` from
    the beginning of the pull to there.
    """

    seconds: float
    size: int
    layer_byte: float
    image_byte: float


@dataclass(frozen=True, slots=True)
class _Layer:
    size: int
    asked_at: float
    first_at: float


class Engine:
    """A client of one registry; logs in when it is asked to, with one token per engine."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._headers: dict[str, str] = {"Accept": ACCEPT}

    def pull(self, repository: str, tag: str = "latest") -> Pull:
        """Pull: HEAD the tag, GET the manifest by digest, its config, its layers in parallel."""
        began = time.perf_counter()
        base = f"/v2/{repository}"
        with self._asked("HEAD", f"{base}/manifests/{tag}") as (connection, head):
            digest = head.headers["docker-content-digest"]
            reply = connection.ask("GET", f"{base}/manifests/{digest}", self._headers)
            manifest = json.loads(connection.read(_fine(reply)))
        config = self._blob(base, manifest["config"])
        with ThreadPoolExecutor(len(manifest["layers"])) as pool:
            layers = list(pool.map(lambda layer: self._blob(base, layer), manifest["layers"]))
        return Pull(
            time.perf_counter() - began,
            config.size + sum(layer.size for layer in layers),
            layers[0].first_at - layers[0].asked_at,
            layers[0].first_at - began,
        )

    def _blob(self, base: str, wanted: Mapping[str, object]) -> _Layer:
        asked_at = time.perf_counter()
        with self._asked("GET", f"{base}/blobs/{wanted['digest']}") as (connection, reply):
            drained = connection.drain(reply)
        if drained.size != wanted["size"]:
            raise Refused(f"a blob of {wanted['size']} bytes came with {drained.size}")
        return _Layer(drained.size, asked_at, drained.first_at)

    @contextmanager
    def _asked(self, method: str, path: str) -> Iterator[tuple[Connection, Reply]]:
        """Ask on a connection of its own; log in and follow one redirect if need be."""
        with Connection(self._url) as connection:
            reply = connection.ask(method, path, self._headers)
            if reply.status == 401:
                connection.drain(reply)
                self._log_in(reply.headers["www-authenticate"])
                reply = connection.ask(method, path, self._headers)
            if reply.status != 307:
                yield connection, _fine(reply)
                return
        place = urlsplit(reply.headers["location"])
        with Connection(f"http://{place.netloc}") as connection:
            yield connection, _fine(connection.ask(method, f"{place.path}?{place.query}"))

    def _log_in(self, challenge: str) -> None:
        wanted = dict(_PARAMETER.findall(challenge))
        realm = urlsplit(wanted.pop("realm"))
        with Connection(f"http://{realm.netloc}") as connection:
            reply = connection.ask("GET", f"{realm.path}?{urlencode(wanted)}")
            token = json.loads(connection.read(_fine(reply)))["token"]
        self._headers["Authorization"] = f"Bearer {token}"


def _fine(reply: Reply) -> Reply:
    if reply.status != 200:
        raise Refused(f"an answer has status {reply.status}")
    return reply
