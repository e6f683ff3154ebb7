"""`make version` writes the next version in every file that has it."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).parents[2]
FILES = (
    "Makefile",
    "CHANGELOG.md",
    "mirror/__init__.py",
    "deploy/chart/Chart.yaml",
    "deploy/kubernetes/mirror.yaml",
)
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="apt-get install make")


def made(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `make version` on a copy of the files that have it."""
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, folder / name)
    command = ["make", "-C", str(folder), "version", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


def _today() -> date:
    """Return the date in the local time zone, as `date` does."""
    return datetime.now(UTC).astimezone().date()


def test_a_version_is_named_in_all_files_at_once(tmp_path: Path) -> None:
    before = _today()
    assert made(tmp_path, "VERSION=98.7.6").returncode == 0
    [version] = re.findall(
        r'^__version__ = "(.*)"$', (tmp_path / "mirror/__init__.py").read_text(), re.MULTILINE
    )
    chart = yaml.safe_load((tmp_path / "deploy/chart/Chart.yaml").read_text())
    manifests = (tmp_path / "deploy/kubernetes/mirror.yaml").read_text()
    assert [version, chart["version"], chart["appVersion"]] == ["98.7.6"] * 3
    assert re.findall(r"image: (.*)$", manifests, re.MULTILINE) == ["mirror:98.7.6"]
    changes = (tmp_path / "CHANGELOG.md").read_text()
    [said] = re.findall(r"^## \[Unreleased\]\n\n## \[98\.7\.6\] - (\S+)\n", changes, re.MULTILINE)
    assert before <= date.fromisoformat(said) <= _today()


def test_without_a_version_nothing_is_changed(tmp_path: Path) -> None:
    refused = made(tmp_path)
    assert refused.returncode == 2
    assert "VERSION=0.2.0, say, is wanted" in refused.stdout
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (PROJECT / name).read_bytes()
