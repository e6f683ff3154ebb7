"""Docker: a daemon that is configured with nothing but `daemon.json.example`."""

import json
from pathlib import Path
from typing import ClassVar, Self

from .engines import Held, Runner, joined
from .processes import Command, Process, environment, run, succeeds
from .rootfs import GREETING, NATIVE, PROGRAM

EXAMPLE = Path(__file__).parents[2] / "daemon.json.example"
EXAMPLE_PORT = ":5000"


class Docker(Runner):
    """dockerd with its classic image store, `registry-mirrors`, and the docker command."""

    programs: ClassVar = ("dockerd", "docker", "containerd", "runc")

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder, port)
        self._env = environment(folder)
        self._socket = f"unix://{folder}/docker.sock"
        self._config = folder / "daemon.json"
        self._config.write_text(EXAMPLE.read_text().replace(EXAMPLE_PORT, f":{port}"))
        self._daemon: Process | None = None

    def __enter__(self) -> Self:
        command: Command = ["dockerd", "--config-file", self._config, "--host", self._socket]
        command += ["--data-root", self.folder / "data", "--exec-root", self.folder / "exec"]
        command += ["--pidfile", self.folder / "pid", "--iptables=false", "--bridge=none"]
        self._daemon = Process(command, self._env, self.folder / "log")
        version = ("docker", "--host", self._socket, "version")
        self._daemon.until(lambda: succeeds(*version, env=self._env))
        return self

    def __exit__(self, *_: object) -> None:
        if self._daemon:
            self._daemon.stop()

    async def pull(self, repository: str, reference: str, architecture: str = NATIVE) -> None:
        """Pull by the short name, as users do."""
        await self._docker("pull", f"--platform=linux/{architecture}", _name(repository, reference))

    async def forget(self, repository: str, reference: str) -> None:
        """Remove an image with its layers."""
        await self._docker("image", "rm", "--force", _name(repository, reference))

    async def held(self, repository: str, reference: str, architecture: str = NATIVE) -> Held:
        """Tell what `docker image inspect` does."""
        [image] = json.loads(await self._docker("image", "inspect", _name(repository, reference)))
        assert image["Architecture"] == architecture
        manifests = frozenset(name.partition("@")[2] for name in image["RepoDigests"])
        return Held(manifests, image["Id"], tuple(image["RootFS"]["Layers"]))

    async def output(self, repository: str, reference: str, *command: str) -> str:
        """Run a command in a container without a network."""
        name = _name(repository, reference)
        printed = await self._docker("run", "--rm", "--network=none", name, *command)
        return printed.decode()

    async def build(self, repository: str, reference: str, tag: str) -> None:
        """Have BuildKit build an image that is from another."""
        context = self.folder / "context"
        context.mkdir(exist_ok=True)
        instructions = f'FROM {_name(repository, reference)}\nCMD ["{PROGRAM}", "{GREETING}"]\n'
        (context / "Dockerfile").write_text(instructions)
        await self._docker("build", "--pull", "--tag", tag, str(context))

    async def _docker(self, *words: str) -> bytes:
        env = self._env | {"DOCKER_BUILDKIT": "1"}
        return await run("docker", "--host", self._socket, *words, env=env)


def _name(repository: str, reference: str) -> str:
    return joined(repository.removeprefix("library/"), reference)
