"""containerd: a separate daemon, configured for the mirror by a `hosts.toml`."""

import json
import shutil
from pathlib import Path
from typing import Any, ClassVar, Self

from .engines import Held, Runner, full_name, held_of
from .mirrors import tell
from .processes import Command, Process, environment, run, succeeds
from .rootfs import NATIVE

CONFIG = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{folder}/containerd.sock"
[ttrpc]
  address = "{folder}/ttrpc.sock"
"""


class Containerd(Runner):
    """containerd and ctr, which send `?ns=docker.io` to a mirror, and no ping.

    With `default` the only file is that of all registries without a file.
    """

    programs: ClassVar[tuple[str, ...]] = ("containerd", "ctr", "runc")
    client: ClassVar = "containerd"

    def __init__(
        self, folder: Path, port: int, *, default: bool = False, ca: Path | None = None
    ) -> None:
        super().__init__(folder, port)
        self._env = environment(folder, PATH=self.path)
        self.configured = folder / "hosts"
        tell(self.client, port, self.configured, ca)
        for hosts in self.configured.glob("*/hosts.toml") if default else ():
            if hosts.parent.name != "_default":
                shutil.rmtree(hosts.parent)
        self._config = folder / "config.toml"
        self._config.write_text(CONFIG.format(folder=folder))
        self._ctr: tuple[str, ...] = ("ctr", "--address", f"{folder}/containerd.sock")
        self._daemon: Process | None = None

    def __enter__(self) -> Self:
        command: Command = ["containerd", "--config", self._config]
        self._daemon = Process(command, self._env, self.folder / "log")
        self._daemon.until(lambda: succeeds(*self._ctr, "version", env=self._env))
        return self

    def __exit__(self, *_: object) -> None:
        if self._daemon:
            self._daemon.stop()

    async def pull(self, repository: str, reference: str, architecture: str = NATIVE) -> None:
        """Pull and unpack."""
        options = [f"--hosts-dir={self.configured}", f"--platform=linux/{architecture}"]
        await self._run("images", "pull", *options, full_name(repository, reference))

    async def pull_all(self, repository: str, reference: str) -> None:
        """Pull an image of every platform."""
        options = [f"--hosts-dir={self.configured}", "--all-platforms"]
        await self._run("images", "pull", *options, full_name(repository, reference))

    async def forget(self, repository: str, reference: str) -> None:
        """Remove an image, and wait until its content is gone."""
        await self._run("images", "rm", "--sync", full_name(repository, reference))

    async def held(self, repository: str, reference: str, architecture: str = NATIVE) -> Held:
        """Read the content store and hash it."""
        name = full_name(repository, reference)
        listed = (await self._run("images", "ls", f"name=={name}")).decode().splitlines()
        target = listed[1].split()[2]
        manifest = await self._content(target)
        document: dict[str, Any] = json.loads(manifest)
        for entry in document.get("manifests", []):
            if entry["platform"]["architecture"] == architecture:
                manifest = await self._content(entry["digest"])
                document = json.loads(manifest)
        config = await self._content(document["config"]["digest"])
        layers = [await self._content(layer["digest"]) for layer in document["layers"]]
        return held_of(manifest, config, layers)

    async def output(self, repository: str, reference: str, *command: str) -> str:
        """Run a command in a container."""
        name = full_name(repository, reference)
        return (await self._run("run", "--rm", name, "a-container", *command)).decode()

    async def _content(self, digest: str) -> bytes:
        return await self._run("content", "get", digest)

    async def _run(self, *words: str) -> bytes:
        return await run(*self._ctr, *words, env=self._env)
