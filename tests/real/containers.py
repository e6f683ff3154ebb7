"""podman, buildah and skopeo: three commands over the library containers/image, no daemon."""

import json
import shutil
from pathlib import Path
from typing import ClassVar

from .engines import Engine, Held, Runner, full_name, held_of
from .mirrors import tell
from .processes import environment, run
from .rootfs import NATIVE

STORAGE = """\
[storage]
driver = "vfs"
graphroot = "{folder}/root"
runroot = "{folder}/run"
"""
# The limits are low, for a sandbox may not raise them, and locks stay out of /dev/shm
CONTAINERS = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
runtime = "runc"
tmp_dir = "{folder}/tmp"
"""


class Podman(Runner):
    """podman, configured for the mirror by `registries.conf`."""

    programs: ClassVar = ("podman", "runc")
    client: ClassVar = "podman"

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder, port)
        self.configured = folder / ".config" / "containers"
        tell(self.client, port, self.configured)
        self._env = _environment(folder)

    async def pull(self, repository: str, reference: str, architecture: str = NATIVE) -> None:
        """Pull an image."""
        await self._podman("pull", "--arch", architecture, full_name(repository, reference))

    async def forget(self, repository: str, reference: str) -> None:
        """Remove an image with its layers."""
        await self._podman("image", "rm", "--force", full_name(repository, reference))

    async def held(self, repository: str, reference: str, architecture: str = NATIVE) -> Held:
        """Return the image of `podman image inspect`."""
        [image] = json.loads(
            await self._podman("image", "inspect", full_name(repository, reference))
        )
        assert image["Architecture"] == architecture
        manifests = frozenset(name.partition("@")[2] for name in image["RepoDigests"])
        return Held(manifests, f"sha256:{image['Id']}", tuple(image["RootFS"]["Layers"]))

    async def output(self, repository: str, reference: str, *command: str) -> str:
        """Run a command in a container without a network."""
        name = full_name(repository, reference)
        return (await self._podman("run", "--rm", "--network=none", name, *command)).decode()

    async def _podman(self, *words: str) -> bytes:
        return await run("podman", *words, env=self._env)


class Buildah(Runner):
    """buildah, which pulls the image of a `FROM`; configured by `registries.conf`."""

    programs: ClassVar = ("buildah",)
    client: ClassVar = "buildah"

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder, port)
        self.configured = folder / ".config" / "containers"
        tell(self.client, port, self.configured)
        self._env = _environment(folder)

    async def pull(self, repository: str, reference: str, architecture: str = NATIVE) -> None:
        """Begin a build from an image, without a step."""
        words = ["from", "--pull-always", "--arch", architecture, full_name(repository, reference)]
        container = (await self._buildah(*words)).decode().split()[-1]
        await self._buildah("rm", container)

    async def forget(self, repository: str, reference: str) -> None:
        """Remove an image with its layers."""
        await self._buildah("rmi", "--force", full_name(repository, reference))

    async def held(self, repository: str, reference: str, architecture: str = NATIVE) -> Held:
        """Return the image of `buildah inspect`."""
        name = full_name(repository, reference)
        image = json.loads(await self._buildah("inspect", "--type=image", name))
        assert image["OCIv1"]["architecture"] == architecture
        manifests = frozenset([image["FromImageDigest"]])
        diff_ids = tuple(image["OCIv1"]["rootfs"]["diff_ids"])
        return Held(manifests, f"sha256:{image['FromImageID']}", diff_ids)

    async def output(self, repository: str, reference: str, *command: str) -> str:
        """Run a command as a build would."""
        name = full_name(repository, reference)
        container = (await self._buildah("from", "--pull-never", name)).decode().split()[-1]
        words = ["run", "--isolation=chroot", container, *command]
        printed = (await self._buildah(*words)).decode()
        await self._buildah("rm", container)
        return printed

    async def _buildah(self, *words: str) -> bytes:
        return await run("buildah", *words, env=self._env)


class Skopeo(Engine):
    """skopeo, configured by `registries.conf`, which copies images into folders."""

    programs: ClassVar = ("skopeo",)
    client: ClassVar = "skopeo"

    def __init__(self, folder: Path, port: int, ca: Path | None = None) -> None:
        super().__init__(folder, port)
        self.configured = folder / ".config" / "containers"
        tell(self.client, port, self.configured, ca)
        self._env = _environment(folder)

    async def pull(self, repository: str, reference: str, architecture: str = NATIVE) -> None:
        """Copy an image into a folder."""
        source = f"docker://{full_name(repository, reference)}"
        target = f"dir:{self._folder(repository, reference)}"
        await run("skopeo", "--override-arch", architecture, "copy", source, target, env=self._env)

    async def pull_all(self, repository: str, reference: str) -> None:
        """Copy an image of every platform into a folder."""
        source = f"docker://{full_name(repository, reference)}"
        target = f"dir:{self._folder(repository, reference)}"
        await run("skopeo", "copy", "--all", source, target, env=self._env)

    async def forget(self, repository: str, reference: str) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder(repository, reference))

    async def held(self, repository: str, reference: str, architecture: str = NATIVE) -> Held:
        """Read the folder and hash its files."""
        folder = self._folder(repository, reference)
        manifest = (folder / "manifest.json").read_bytes()
        document = json.loads(manifest)
        blobs = [document["config"], *document["layers"]]
        config, *layers = [
            (folder / blob["digest"].partition(":")[2]).read_bytes() for blob in blobs
        ]
        assert json.loads(config)["architecture"] == architecture
        return held_of(manifest, config, layers)

    def _folder(self, repository: str, reference: str) -> Path:
        return self.folder / f"{repository}-{reference}".replace("/", "-").replace(":", "-")


def _environment(folder: Path) -> dict[str, str]:
    """Write two more configuration files, and return the variables that point at them."""
    for name, text in (("storage", STORAGE), ("containers", CONTAINERS)):
        (folder / f"{name}.conf").write_text(text.format(folder=folder))
    return environment(
        folder,
        CONTAINERS_STORAGE_CONF=f"{folder}/storage.conf",
        CONTAINERS_CONF=f"{folder}/containers.conf",
    )
