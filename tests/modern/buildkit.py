"""buildkitd, configured only by the `buildkitd.toml` of `client-config`."""

from pathlib import Path
from typing import Self

from tests.real.mirrors import tell
from tests.real.processes import PATH, Command, Process, environment, run, succeeds

from .build import BIN


class BuildKit:
    """A separate builder; all its files are under `folder`."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._env = environment(folder, PATH=f"{BIN}:{PATH}")
        self._ctl = ("buildctl", "--addr", f"unix://{folder}/buildkit.sock")
        tell("buildkit", port, folder)
        self._daemon: Process | None = None

    def __enter__(self) -> Self:
        command: Command = ["buildkitd", "--config", self._folder / "buildkitd.toml"]
        command += ["--root", self._folder / "root", "--addr", self._ctl[2]]
        command += ["--oci-worker-snapshotter=native", "--containerd-worker=false"]
        self._daemon = Process(command, self._env, self._folder / "log")
        workers = (*self._ctl, "debug", "workers")
        self._daemon.until(lambda: succeeds(*workers, env=self._env))
        return self

    def __exit__(self, *_: object) -> None:
        if self._daemon:
            self._daemon.stop()

    async def build(self, name: str) -> None:
        """Build an image from another into an archive with all layers, which is removed."""
        context = self._folder / "context"
        context.mkdir(exist_ok=True)
        (context / "Dockerfile").write_text(f'FROM {name}\nLABEL of="{name}"\n')
        words: Command = ["build", "--frontend=dockerfile.v0", "--no-cache"]
        words += [f"--local=context={context}", f"--local=dockerfile={context}"]
        words += [f"--output=type=oci,dest={self._folder}/built.tar"]
        await run(*self._ctl, *words, env=self._env)

    async def forget(self) -> None:
        """Prune all cached content."""
        await run(*self._ctl, "prune", "--all", env=self._env)
