"""The clients' programs: their versions, their build, and the folder that keeps them."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KEPT = Path(__file__).parents[2] / ".modern"
BIN = KEPT / "bin"
A_BUILD = 3600.0  # seconds; dockerd took 10 minutes on two busy cores


@dataclass(frozen=True)
class Module:
    """Programs of one Go module, by their packages.

    With `copied` they are built in a copy of the module, for `go install` refuses a module with a
    `replace` or an `exclude` in go.mod.
    """

    path: str
    version: str
    packages: tuple[str, ...]
    copied: bool = False

    @property
    def programs(self) -> Iterator[str]:
        """The names of the programs."""
        return (package.rpartition("/")[2] for package in self.packages)

    @property
    def is_built(self) -> bool:
        """Whether all programs are kept in this version."""
        return all((KEPT / f"{name}-{self.version}").exists() for name in self.programs)


MODULES = (
    Module("github.com/google/go-containerregistry", "v0.22.1", ("cmd/crane",)),
    Module("oras.land/oras", "v1.3.6", ("cmd/oras",)),
    Module("github.com/regclient/regclient", "v0.11.7", ("cmd/regctl",)),
    Module(
        "github.com/containerd/containerd/v2",
        "v2.4.2",
        ("cmd/containerd", "cmd/ctr", "cmd/containerd-shim-runc-v2"),
    ),
    Module("github.com/moby/moby/v2", "v2.0.0-beta.24", ("cmd/dockerd",)),
    Module("github.com/moby/buildkit", "v0.34.2", ("cmd/buildkitd", "cmd/buildctl"), copied=True),
    Module("github.com/docker/buildx", "v0.38.2", ("cmd/buildx",)),
    Module("sigs.k8s.io/cri-tools", "v1.37.0", ("cmd/crictl",)),
    Module("helm.sh/helm/v4", "v4.3.1", ("cmd/helm",)),
)


def build_all() -> int:
    """Build the missing programs, one module at a time; returns the number of failures."""
    BIN.mkdir(parents=True, exist_ok=True)
    failed = 0
    for module in MODULES:
        names = ", ".join(module.programs)
        if not module.is_built:
            _say(f"building {names} {module.version} (once; up to 20 minutes)")
            begun = time.monotonic()
            try:
                (_build_copy if module.copied else _install)(module)
            except (OSError, subprocess.SubprocessError) as error:
                _say(f"{names} {module.version} cannot be built: {error}")
                failed += 1
                continue
            for name in module.programs:
                for stale in KEPT.glob(f"{name}-v*"):
                    stale.unlink()
                (KEPT / f"{name}-{module.version}").touch()
            _say(f"built {names} in {time.monotonic() - begun:.0f} s")
        _say(f"{names} {module.version}")
    return failed


def _install(module: Module) -> None:
    packages = [f"{module.path}/{package}@{module.version}" for package in module.packages]
    _go("install", *packages, folder=KEPT)


def _build_copy(module: Module) -> None:
    said = _go("mod", "download", "-json", f"{module.path}@{module.version}", folder=KEPT)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "module"
        shutil.copytree(json.loads(said)["Dir"], copy)  # the original is read-only
        for package in module.packages:
            _go("build", "-mod=mod", "-o", str(BIN), f"./{package}", folder=copy)


def _go(*words: str, folder: Path) -> str:
    """Run go at a low priority, one compiler at a time; raises OSError, SubprocessError."""
    env = os.environ | {"GOBIN": str(BIN), "CGO_ENABLED": "0", "GOFLAGS": "-p=1 -buildvcs=false"}
    command = ["nice", "-n", "10", "go", *words]
    done = subprocess.run(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True, check=True, timeout=A_BUILD
    )
    return done.stdout


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
