"""Without the mirror, a client reaches a registry with a private CA, as before."""

import socket
from pathlib import Path

import pytest
import trustme

from tests.standin import Hub, Image
from tests.support.ports import free_port

from .containerd import Containerd
from .mirrors import COMMAND, shown
from .processes import CommandFailed, Process, environment, needs, run, scratch

APP = "library/app"


def own_address() -> str:
    """Return an address of this machine; on loopback containerd verifies no certificate."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address beside its loopback")
        return str(probe.getsockname()[0])


@pytest.mark.parametrize("told", [True, False], ids=["told", "not told"])
async def test_containerd_goes_on_to_a_registry_whose_ca_the_mirror_has(
    hub: Hub, image: Image, told: bool
) -> None:
    """The mirror is down; the registry is another mirror, which serves TLS."""
    needs(*Containerd.programs)
    hub.add(image, APP, "1")
    name, authority = f"{own_address()}:{free_port()}", trustme.CA()
    with scratch() as folder:
        options: list[str | Path] = ["--listen", name, "--data-dir", folder / "registry"]
        options += [*shown(authority, folder, name.partition(":")[0])]
        options += ["--upstream", f"docker.io={hub.url}"]
        registry = Process([COMMAND, "serve", *options], environment(folder), folder / "log")
        try:
            registry.until(lambda: "listening on" in registry.log)
            if told:
                await _goes_on(folder, name, authority)
            else:
                with pytest.raises(CommandFailed, match="signed by unknown authority"):
                    await _goes_on(folder, name, None)
        finally:
            registry.stop()


async def _goes_on(folder: Path, name: str, authority: trustme.CA | None) -> None:
    config = f'upstreams."{name}".url = "https://{name}"\n'
    if authority is not None:
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        config += f'upstreams."{name}".ca_file = "{folder}/ca.pem"\n'
    (folder / "mirror.toml").write_text(config)
    with Containerd(folder, nobody := free_port()) as engine:
        await run(
            *(COMMAND, "client-config", "containerd", "--config", folder / "mirror.toml"),
            *("--url", f"http://127.0.0.1:{nobody}", "--output", engine.configured, "--force"),
            env=environment(folder),
        )
        env = environment(folder, NO_PROXY=name.partition(":")[0])
        fetch = ("content", "fetch", f"--hosts-dir={engine.configured}", f"{name}/{APP}:1")
        await run("ctr", "--address", f"{folder}/containerd.sock", *fetch, env=env)
