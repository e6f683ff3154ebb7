"""Engines of today: Docker with either of its image stores, and containerd 2.

They pull and build, and run nothing: Debian's runc is too old for this dockerd.
"""

import io
import json
import tarfile
from typing import Any, ClassVar

import pytest

from tests.real.containerd import Containerd
from tests.real.dockerd import Docker
from tests.real.engines import Held, held_of, joined
from tests.real.processes import PATH, needs, run
from tests.real.rootfs import NATIVE

from .build import BIN


def needs_built(*programs: str) -> None:
    """Skip the test where a built program or a package of Debian is missing."""
    needs("docker", "crun", "runc")  # `go install` can build neither the command nor the runtime
    missing = [program for program in programs if not (BIN / program).exists()]
    if missing:
        pytest.skip(f"{', '.join(missing)}: `make test-modern` builds them")


class ModernContainerd(Containerd):
    """containerd 2, configured by the same files as version 1.6."""

    programs: ClassVar[tuple[str, ...]] = ("containerd", "ctr", "containerd-shim-runc-v2")
    path: ClassVar = f"{BIN}:{PATH}"


class ClassicDocker(Docker):
    """dockerd of today with its classic image store, which has mirrors for Docker Hub only."""

    programs: ClassVar = ("dockerd", *ModernContainerd.programs)
    path: ClassVar = f"{BIN}:{PATH}"
    options: ClassVar[tuple[str, ...]] = ("--feature=containerd-snapshotter=false",)

    async def buildx(self, name: str) -> None:
        """Have buildx build an image from another, by exactly this name, and keep nothing."""
        env = self._env | {"DOCKER_HOST": self._socket}
        await run(
            "buildx", "build", "--pull", "--no-cache", "-", env=env, data=f"FROM {name}\n".encode()
        )


class ModernDocker(ClassicDocker):
    """dockerd as from version 29 on: its image store and its mirrors are containerd's."""

    options: ClassVar = (
        "--feature=containerd-snapshotter=true",
        "--storage-driver=native",  # works on any file system of the tests' folder
    )

    async def held(self, repository: str, reference: str, architecture: str = NATIVE) -> Held:
        """Hash the files of `docker image save`; `inspect` knows an image only by its manifest."""
        name = self._name(repository, reference)
        saved = await self._docker("image", "save", name)
        with tarfile.open(fileobj=io.BytesIO(saved)) as tar:
            blobs = {entry.name: tar.extractfile(entry) for entry in tar if entry.isfile()}
            contents = {name: file.read() for name, file in blobs.items() if file}

        def content(digest: str) -> bytes:
            return contents[f"blobs/{digest.replace(':', '/')}"]

        [target] = json.loads(contents["index.json"])["manifests"]
        manifest = content(target["digest"])
        document: dict[str, Any] = json.loads(manifest)
        config = content(document["config"]["digest"])
        assert json.loads(config)["architecture"] == architecture
        return held_of(manifest, config, [content(layer["digest"]) for layer in document["layers"]])

    def _name(self, repository: str, reference: str) -> str:
        return joined(repository.removeprefix("library/"), reference)
