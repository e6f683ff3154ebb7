"""Distribution v3, which Debian has not: built once from its Go module, outside of the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

NAME = "distribution v3"
MODULE = "github.com/distribution/distribution/v3/cmd/registry@v3.0.0"
_FOLDER = Path.home() / ".cache" / "mirror-bench"
_BUILT_WITHIN = 900.0  # seconds


def built(say: Callable[[str], None]) -> Path | None:
    """Return the program, built if need be; None where it cannot be, and that is said."""
    program = _FOLDER / "registry"
    if program.exists():
        return program
    if shutil.which("go") is None:
        say(f"{NAME} is left out: there is no Go to build it with")
        return None
    say(f"building {NAME} in {_FOLDER}, once")
    _FOLDER.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"GOBIN": str(_FOLDER)}
    done = subprocess.run(
        ("go", "install", MODULE),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=_BUILT_WITHIN,
    )
    if done.returncode:
        say(f"{NAME} is left out, it cannot be built: {done.stderr.strip()[-300:]}")
        return None
    return program
