"""What the tests ask of a client, whichever it is: pull, forget, and tell what it has."""

import gzip
import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from tests.standin import Document, Image, Index

from .processes import PATH
from .rootfs import NATIVE


@dataclass(frozen=True)
class Held:
    """An image as a client has it: what it is known by, its config, its unpacked layers."""

    manifests: frozenset[str]
    config: str
    diff_ids: tuple[str, ...]

    def is_same(self, offered: Document, architecture: str = NATIVE) -> bool:
        """Tell whether this is what the hub offers, for one architecture if it has several."""
        image = image_for(offered, architecture)
        known = {offered.digest, image.digest} & self.manifests
        same = (self.config, self.diff_ids) == (image.config.digest, image.diff_ids)
        return bool(known) and same


def image_for(offered: Document, architecture: str) -> Image:
    """Return the image itself, or the one of an index that is for this architecture."""
    if not isinstance(offered, Index):
        return offered
    return next(image for image in offered.images if image.architecture == architecture)


class Engine(ABC):
    """A client of its own, which pulls through the mirror on `port`, as `client-config` told it.

    A `repository` is Docker Hub's, if its name does not begin with another registry's;
    `reference` is a tag or a digest. All its files are under `folder`.
    """

    programs: ClassVar[tuple[str, ...]]
    path: ClassVar[str] = PATH
    client: ClassVar[str]
    """What `client-config` calls it."""
    configured: Path
    """The folder that `client-config` wrote into."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    @abstractmethod
    async def pull(self, repository: str, reference: str, architecture: str = NATIVE) -> None:
        """Pull an image; raises CommandFailed."""

    @abstractmethod
    async def forget(self, repository: str, reference: str) -> None:
        """Remove an image with all its content."""

    @abstractmethod
    async def held(self, repository: str, reference: str, architecture: str = NATIVE) -> Held:
        """Tell what the engine has, in its own words."""


class Runner(Engine):
    """An engine that can also run what it pulled."""

    @abstractmethod
    async def output(self, repository: str, reference: str, *command: str) -> str:
        """Run a command in the image and return what it printed."""


def full_name(repository: str, reference: str) -> str:
    """Write a name with its registry, Docker Hub if it has none."""
    first = repository.partition("/")[0]
    registry = "" if "." in first or ":" in first else "docker.io/"
    return joined(f"{registry}{repository}", reference)


def joined(repository: str, reference: str) -> str:
    """Write a name as clients want it: `name:tag` or `name@digest`."""
    return f"{repository}{'@' if ':' in reference else ':'}{reference}"


def held_of(manifest: bytes, config: bytes, layers: list[bytes]) -> Held:
    """Tell what these documents and packed layers are, by hashing them."""
    document: dict[str, Any] = json.loads(manifest)
    named = [document["config"]["digest"], *(layer["digest"] for layer in document["layers"])]
    assert [digest_of(content) for content in (config, *layers)] == named
    diff_ids = tuple(digest_of(gzip.decompress(layer)) for layer in layers)
    return Held(frozenset([digest_of(manifest)]), digest_of(config), diff_ids)


def digest_of(content: bytes) -> str:
    """Return the digest by which registries know this content."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
