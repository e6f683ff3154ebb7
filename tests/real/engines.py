"""The interface of all clients: pull and forget an image, and report the stored one."""

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
    """An image as a client has it: its digests, its config, its unpacked layers."""

    manifests: frozenset[str]
    config: str
    diff_ids: tuple[str, ...]

    def is_same(self, offered: Document, architecture: str = NATIVE) -> bool:
        """Tell whether this is the hub's image, for one architecture if it has several."""
        image = image_for(offered, architecture)
        known = {offered.digest, image.digest} & self.manifests
        same = (self.config, self.diff_ids) == (image.config.digest, image.diff_ids)
        return bool(known) and same


def image_for(offered: Document, architecture: str) -> Image:
    """Return the image itself, or an index's image for this architecture."""
    if not isinstance(offered, Index):
        return offered
    return next(image for image in offered.images if image.architecture == architecture)


class Engine(ABC):
    """A separate client, which pulls through the mirror on `port`, as `client-config` configured.

    A `repository` is Docker Hub's, unless its name begins with another registry's;
    `reference` is a tag or a digest. All its files are under `folder`.
    """

    programs: ClassVar[tuple[str, ...]]
    path: ClassVar[str] = PATH
    client: ClassVar[str]
    """The client's name in `client-config`."""
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
        """Return the image that the engine has, as the engine reports it."""


class Runner(Engine):
    """An engine that can also run a pulled image."""

    @abstractmethod
    async def output(self, repository: str, reference: str, *command: str) -> str:
        """Run a command in the image and return its output."""


def full_name(repository: str, reference: str) -> str:
    """Return a name with its registry, Docker Hub by default."""
    first = repository.partition("/")[0]
    registry = "" if "." in first or ":" in first else "docker.io/"
    return joined(f"{registry}{repository}", reference)


def joined(repository: str, reference: str) -> str:
    """Return a name in the form of clients: `name:tag` or `name@digest`."""
    return f"{repository}{'@' if ':' in reference else ':'}{reference}"


def held_of(manifest: bytes, config: bytes, layers: list[bytes]) -> Held:
    """Return the image of these documents and packed layers, by their hashes."""
    document: dict[str, Any] = json.loads(manifest)
    named = [document["config"]["digest"], *(layer["digest"] for layer in document["layers"])]
    assert [digest_of(content) for content in (config, *layers)] == named
    diff_ids = tuple(digest_of(gzip.decompress(layer)) for layer in layers)
    return Held(frozenset([digest_of(manifest)]), digest_of(config), diff_ids)


def digest_of(content: bytes) -> str:
    """Return the digest of this content."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
