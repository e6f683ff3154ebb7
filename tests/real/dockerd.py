"""Docker: a daemon with an `/etc/docker` of `client-config` alone."""

import json
import os
import signal
from pathlib import Path
from typing import ClassVar, Self

from .engines import Held, Runner, joined
from .mirrors import tell
from .processes import Command, Process, environment, run, succeeds
from .rootfs import GREETING, NATIVE, PROGRAM

ETC = Path("/etc/docker")
RELOADED = "Reloaded configuration"
MOUNTED = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'


class Docker(Runner):
    """dockerd with its classic image store, `registry-mirrors`, and the docker command.

    It has mirrors only for Docker Hub: it pulls images of other registries by the mirror's name.
    No option sets the folder of its certificates: it runs with a private mount in that place.
    """

    programs: ClassVar[tuple[str, ...]] = ("dockerd", "docker", "containerd", "runc")
    client: ClassVar = "docker"
    options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder, port)
        self._env = environment(folder, PATH=self.path)
        self._socket = f"unix://{folder}/docker.sock"
        self.configured = folder / "etc"
        tell(self.client, port, self.configured)
        self._daemon: Process | None = None

    def __enter__(self) -> Self:
        ETC.mkdir(exist_ok=True)
        command: Command = ["unshare", "--mount", "sh", "-c", MOUNTED, "sh", self.configured, ETC]
        command += ["dockerd", "--host", self._socket]
        command += ["--data-root", self.folder / "data", "--exec-root", self.folder / "exec"]
        command += ["--pidfile", self.folder / "pid", "--iptables=false", "--bridge=none"]
        command += self.options
        self._daemon = Process(command, self._env, self.folder / "log")
        version = ("docker", "--host", self._socket, "version")
        self._daemon.until(lambda: succeeds(*version, env=self._env))
        return self

    def __exit__(self, *_: object) -> None:
        if self._daemon:
            self._daemon.stop()

    def reload(self) -> None:
        """Have Docker read its configuration anew, as `systemctl reload docker` does."""
        assert self._daemon, "it is not running"
        before, daemon = self._daemon.log.count(RELOADED), self._daemon
        os.kill(int((self.folder / "pid").read_text()), signal.SIGHUP)
        daemon.until(lambda: daemon.log.count(RELOADED) > before)

    async def mirrors(self) -> list[str]:
        """Return the mirrors of `docker info`."""
        info = json.loads(await self._docker("info", "--format", "{{json .RegistryConfig}}"))
        return list(info["Mirrors"] or [])

    async def pull(self, repository: str, reference: str, architecture: str = NATIVE) -> None:
        """Pull by the short name, as users do."""
        await self._docker(
            "pull", f"--platform=linux/{architecture}", self._name(repository, reference)
        )

    async def forget(self, repository: str, reference: str) -> None:
        """Remove an image with its layers."""
        await self._docker("image", "rm", "--force", self._name(repository, reference))

    async def held(self, repository: str, reference: str, architecture: str = NATIVE) -> Held:
        """Return the image of `docker image inspect`."""
        [image] = json.loads(
            await self._docker("image", "inspect", self._name(repository, reference))
        )
        assert image["Architecture"] == architecture
        manifests = frozenset(name.partition("@")[2] for name in image["RepoDigests"])
        return Held(manifests, image["Id"], tuple(image["RootFS"]["Layers"]))

    async def output(self, repository: str, reference: str, *command: str) -> str:
        """Run a command in a container without a network."""
        name = self._name(repository, reference)
        printed = await self._docker("run", "--rm", "--network=none", name, *command)
        return printed.decode()

    async def build(self, repository: str, reference: str, tag: str) -> None:
        """Have BuildKit build an image from another."""
        await self.build_from(self._name(repository, reference), tag)

    async def build_from(self, name: str, tag: str) -> None:
        """Have BuildKit build an image from another, by exactly this name."""
        context = self.folder / "context"
        context.mkdir(exist_ok=True)
        instructions = f'FROM {name}\nCMD ["{PROGRAM}", "{GREETING}"]\n'
        (context / "Dockerfile").write_text(instructions)
        await self._docker("build", "--pull", "--tag", tag, str(context))

    async def _docker(self, *words: str) -> bytes:
        env = self._env | {"DOCKER_BUILDKIT": "1"}
        return await run("docker", "--host", self._socket, *words, env=env)

    def _name(self, repository: str, reference: str) -> str:
        first, _, rest = repository.partition("/")
        if ":" in first:  # a path cannot have a colon, so a host stands for it
            return joined(f"localhost:{self.port}/{rest}", reference)
        if "." in first:
            return joined(f"127.0.0.1:{self.port}/{repository}", reference)
        return joined(repository.removeprefix("library/"), reference)
