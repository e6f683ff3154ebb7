"""`pip`, `pipx` and `uv tool` install the command `mirror` from wheel and sdist."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mirror

from .conftest import PROJECT

KINDS = ["*.whl", "*.tar.gz"]
WAYS = [*KINDS, "."]  # the last is the checkout


def file(dist: Path, kind: str) -> Path:
    """Return the package of a kind."""
    if kind == ".":
        return PROJECT
    [found] = dist.glob(kind)
    assert mirror.__version__ in found.name
    return found


def run(*command: str | Path, **variables: str) -> str:
    """Run a program outside the checkout; returns its output."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run(
        command, env=env | variables, cwd="/", capture_output=True, timeout=300, check=True
    )
    return ran.stdout.decode()


def is_whole(command: Path, folder: Path) -> None:
    """Have the command print its version, and make an index, which needs the packaged schema."""
    assert run(command, "--version").strip() == f"mirror {mirror.__version__}"
    (folder / "blobs").mkdir()
    assert "in all" in run(command, "du", "--data-dir", folder)


@pytest.mark.parametrize("kind", KINDS)
def test_pip_installs_it(dist: Path, kind: str, tmp_path: Path) -> None:
    venv, data = tmp_path / "venv", tmp_path / "data"
    data.mkdir()
    run(sys.executable, "-m", "venv", venv)
    run(
        venv / "bin" / "pip",
        "install",
        "--quiet",
        "--require-hashes",
        "-r",
        PROJECT / "requirements.lock",
    )
    run(venv / "bin" / "pip", "install", "--quiet", "--no-deps", file(dist, kind))
    is_whole(venv / "bin" / "mirror", data)


@pytest.mark.parametrize("kind", WAYS)
def test_pipx_installs_it(dist: Path, tools: Path, kind: str, tmp_path: Path) -> None:
    home = {"PIPX_HOME": f"{tmp_path}/home", "PIPX_BIN_DIR": f"{tmp_path}/bin"}
    run(tools / "pipx", "install", file(dist, kind), **home)
    (tmp_path / "data").mkdir()
    is_whole(tmp_path / "bin" / "mirror", tmp_path / "data")


@pytest.mark.parametrize("kind", WAYS)
def test_uv_installs_it(dist: Path, tools: Path, kind: str, tmp_path: Path) -> None:
    home = {"UV_TOOL_DIR": f"{tmp_path}/home", "UV_TOOL_BIN_DIR": f"{tmp_path}/bin"}
    python = sys.executable
    run(tools / "uv", "tool", "install", "--python", python, file(dist, kind), **home)
    (tmp_path / "data").mkdir()
    is_whole(tmp_path / "bin" / "mirror", tmp_path / "data")
