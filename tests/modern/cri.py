"""containerd 2 as a kubelet uses it: by its CRI, configured by `config_path`."""

from pathlib import Path
from typing import ClassVar

from tests.real.engines import full_name
from tests.real.processes import run
from tests.real.rootfs import NATIVE

from .engines import ModernContainerd

CONFIG = """\
version = 3
root = "{folder}/root"
state = "{folder}/state"
[grpc]
  address = "{folder}/containerd.sock"
[ttrpc]
  address = "{folder}/ttrpc.sock"
[plugins."io.containerd.cri.v1.images".registry]
  config_path = "{hosts}"
"""


class Cri(ModernContainerd):
    """A containerd driven by crictl; its images are in the namespace of Kubernetes."""

    programs: ClassVar = (*ModernContainerd.programs, "crictl")

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder, port)
        self._config.write_text(CONFIG.format(folder=folder, hosts=self.configured))
        self._ctr = (*self._ctr, "--namespace", "k8s.io")

    async def pull(self, repository: str, reference: str, architecture: str = NATIVE) -> None:
        """Pull as a kubelet does, for this machine's platform only."""
        assert architecture == NATIVE
        await self._crictl("pull", full_name(repository, reference))

    async def forget(self, repository: str, reference: str) -> None:
        """Remove an image, and wait until its content is gone."""
        await self._crictl("rmi", full_name(repository, reference))
        await self._run("content", "prune", "references")

    async def _crictl(self, *words: str) -> bytes:
        socket = f"unix://{self.folder}/containerd.sock"
        endpoints = ("--runtime-endpoint", socket, "--image-endpoint", socket)
        return await run("crictl", *endpoints, *words, env=self._env)
