"""The packages to install, built once, as by `make dist`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real.conftest import hub, image

__all__ = ["hub", "image"]
PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with wheel and sdist."""
    folder = tmp_path_factory.mktemp("dist")
    command: list[str | Path] = [sys.executable, "-m", "build", "--outdir", folder, PROJECT]
    subprocess.run(command, check=True, timeout=300, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the commands `pipx` and `uv`, from the package registry."""
    folder = tmp_path_factory.mktemp("tools")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=60)
    pip: list[str | Path] = [folder / "bin" / "pip", "install", "--quiet", "pipx", "uv"]
    if subprocess.run(pip, check=False, timeout=300).returncode:
        shutil.rmtree(folder)
        pytest.skip("pipx and uv cannot be had from the package registry")
    return folder / "bin"
