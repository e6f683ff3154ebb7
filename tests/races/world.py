"""The world: the content of each upstream's repositories, and the answers that upstream gave."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field

from mirror.oci import manifest, media
from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.oci.names import Repository

UPSTREAMS = ("docker.io", "other.test")
TAG = "latest"
_SIZES = (400, 5_000, 40_000, 90_000, 200_000, 400_000)
_HOLLOW = 4  # empty repositories of each upstream, as made-up names
_VERSIONS = 3  # of each tag; a tag never moves back


@dataclass
class Home:
    """A repository at its upstream: its content, and the versions of its tag."""

    content: set[Digest] = field(default_factory=set)
    versions: list[Digest] = field(default_factory=list)
    at: int = 0

    @property
    def tagged(self) -> Digest:
        """The digest that the tag points at."""
        return self.versions[self.at]


class World:
    """Blobs and manifests by digest, and their repositories, all from the seed."""

    def __init__(self, seed: str) -> None:
        chance = random.Random(f"world {seed}")
        self.upstreams = UPSTREAMS[: chance.choice((1, 2, 2))]
        self.blobs: dict[Digest, bytes] = {}
        self.manifests: dict[Digest, Manifest] = {}
        self.homes: dict[Repository, Home] = {}
        self.granted: set[tuple[Repository, Digest]] = set()  # upstream confirmed it at least once
        self.counted: list[tuple[str, str]] = []  # the pulls, by upstream and reference
        self.altered: set[Digest] = set()
        self.disowned = False  # a repository was purged, so kept files may have no link
        layers = [self._blob(chance, size) for size in (*_SIZES, *chance.choices(_SIZES, k=2))]
        for upstream in self.upstreams:
            for name in "abc":
                self.homes[Repository(upstream, f"library/{name}")] = self._home(chance, layers)
        self.hollow = {
            Repository(upstream, f"library/hollow-{number}")
            for upstream in self.upstreams
            for number in range(_HOLLOW)
        }

    def _blob(self, chance: random.Random, size: int) -> Digest:
        body = chance.randbytes(size)
        digest = Digest.of(body)
        self.blobs[digest] = body
        return digest

    def _home(self, chance: random.Random, layers: list[Digest]) -> Home:
        home = Home()
        for _ in range(_VERSIONS):
            image = self._image([self._blob(chance, 300), *chance.sample(layers, 2)])
            home.versions.append(image)
            home.content |= {image, *self.manifests[image].children}
        return home

    def _image(self, parts: list[Digest]) -> Digest:
        config, *layers = [
            {"mediaType": "application/x", "digest": part, "size": len(self.blobs[part])}
            for part in parts
        ]
        document = {"schemaVersion": 2, "mediaType": media.OCI_MANIFEST}
        body = json.dumps(document | {"config": config, "layers": layers}).encode()
        digest = Digest.of(body)
        self.manifests[digest] = manifest.read(body, digest, media.OCI_MANIFEST)
        return digest

    def has(self, repository: Repository, digest: Digest) -> bool:
        """Tell whether a repository has this digest."""
        return repository in self.homes and digest in self.homes[repository].content

    def body(self, digest: Digest) -> bytes:
        """Return the bytes of a blob or manifest."""
        if digest in self.blobs:
            return self.blobs[digest]
        return self.manifests[digest].body
