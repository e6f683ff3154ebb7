"""From nothing to the second pull, by each documented way, on a machine of its own.

That machine is this one with all changes thrown away, its caches of packages empty. systemd does
not run there: what it would start is started by hand, and not counted.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.attacks.distribution import MODULE, NAME
from bench.processes import Failed, free_port
from bench.servers import CHECKOUT, Hub, Image, start_hub
from tests.real.machines import Machine, machine
from tests.real.processes import CommandFailed, answers

_IMAGE = "library/app"
_LAYERS = "30M,5M,1K"
_WITHIN = 1800.0  # seconds
_KEPT = "/kept"  # in each machine: what the one before left for it

# https://distribution.github.io/distribution/recipes/mirror, with the samples it leads to.
_RECIPE = """\
version: 0.1
storage:
  filesystem:
    rootdirectory: /var/lib/registry
http:
  addr: {listen}
proxy:
  remoteurl: {hub}
"""


@dataclass(frozen=True, slots=True)
class Way:
    """Lines as they are typed, the last of which serves; `silently` is what no user types.

    `leaves` names what the next way has already.
    """

    name: str
    lines: tuple[str, ...]
    silently: tuple[str, ...] = ()
    user: str = "root"
    path: str = "/readyz"
    leaves: str = ""


@dataclass(frozen=True, slots=True)
class First:
    """How one way went: the commands that were typed, and seconds; what upstream sent."""

    name: str
    commands: int
    serving: float
    first: float
    second: float
    bodies: int

    @property
    def whole(self) -> float:
        """From nothing to the end of the second pull."""
        return self.serving + self.first + self.second


def ways(hub: str, listen: str) -> tuple[Way, ...]:
    """Return the ways, with a hub in place of Docker Hub, and a port that is free."""
    clone = f"git clone --quiet file://{CHECKOUT} /mirror"
    ours = f"MIRROR_LISTEN={listen} MIRROR_UPSTREAMS__DOCKER_IO__URL={hub}"
    service = f"env {ours} /opt/mirror/bin/mirror serve --config /etc/mirror/mirror.toml"
    deb = "apt-get install --yes --quiet=2"
    config = f"cat > config.yml <<'END'\n{_RECIPE.format(listen=listen, hub=hub)}END"
    go = "export PATH=/usr/local/go/bin:$PATH GOFLAGS=-buildvcs=false;"
    kept = f"{_KEPT}/registry"
    return (
        Way("mirror, `make run`", (clone, f"cd /mirror && {ours} make run")),
        Way(
            "mirror, package built and installed",
            (clone, "cd /mirror && make dist", f"{deb} /mirror/dist/mirror_*.deb"),
            (service,),
            "mirror",
            leaves="/mirror/dist/mirror_*.deb",
        ),
        Way("mirror, package at hand", (f"{deb} {_KEPT}/mirror_*.deb",), (service,), "mirror"),
        Way(
            f"{NAME}, built",
            (f"{go} go install {MODULE}", config, "/go/bin/registry serve config.yml"),
            path="/v2/",
            leaves="/go/bin/registry",
        ),
        Way(f"{NAME}, program at hand", (config, f"{kept} serve config.yml"), path="/v2/"),
    )


def firsts(folder: Path, say: Callable[[str], None]) -> Iterator[First]:
    """Go each way once; one that leads nowhere is left out, and that is said."""
    with ExitStack() as stack:
        hub = start_hub(stack, folder / "hub", [f"{_IMAGE}={_LAYERS}"])
        listen = f"127.0.0.1:{free_port()}"
        for way in ways(hub.url, listen):
            try:
                yield _go(way, hub, listen, folder)
            except (Failed, CommandFailed, subprocess.SubprocessError) as error:
                say(f"{way.name} is left out: {error}")


def _go(way: Way, hub: Hub, listen: str, folder: Path) -> First:
    hub.forget()
    kept = folder / "kept"
    kept.mkdir(exist_ok=True)
    with machine() as host:
        shutil.copytree(kept, host.path(_KEPT))
        began = time.perf_counter()
        for line in (*way.lines, *way.silently)[:-1]:
            host.run(line, within=_WITHIN)
        pulls = _served(way, host, hub, listen, folder, began)
        for left in host.path("/").glob(way.leaves.lstrip("/")) if way.leaves else ():
            shutil.copy2(left, kept)
        return pulls


def _served(way: Way, host: Machine, hub: Hub, listen: str, folder: Path, began: float) -> First:
    """Start the last line, and pull twice."""
    last = shlex.quote((*way.lines, *way.silently)[-1])
    daemon = host.start(f"sh -c {last}", way.user, folder / "log")
    try:
        _wait(f"http://{listen}{way.path}", folder / "log")
        serving = time.perf_counter() - began
        image = hub.images[_IMAGE]
        first, second = (_pull(listen, image, folder / "pulled") for _ in range(2))
        bodies = sum(hub.bodies(layer) for layer in image.layers)
    finally:
        daemon.stop()
    return First(way.name, len(way.lines), serving, first, second, bodies)


def _wait(url: str, log: Path) -> None:
    until = time.perf_counter() + _WITHIN
    while not answers(url):
        if time.perf_counter() > until:
            raise Failed(f"nothing is served: {log.read_text(errors='replace')[-500:]}")
        time.sleep(0.02)


def _pull(listen: str, image: Image, folder: Path) -> float:
    words: list[Any] = ["skopeo", "copy", "--quiet", "--src-tls-verify=false"]
    began = time.perf_counter()
    subprocess.run(
        [*words, f"docker://{listen}/{image.repository}:latest", f"dir:{folder}"],
        timeout=_WITHIN,
        check=True,
    )
    shutil.rmtree(folder)
    return time.perf_counter() - began
