"""Checkouts: what a commit has, in a folder of its own, without what was made in another."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

from bench.processes import Failed
from bench.servers import CHECKOUT


def checkout(commit: str, folder: Path) -> Path:
    """Lay a commit out in a folder, which is made; raises Failed where there is no such commit."""
    archive = folder.with_suffix(".tar")
    made = subprocess.run(
        ("git", "-C", CHECKOUT, "archive", "--output", archive, commit),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if made.returncode:
        raise Failed(f"{commit}: {made.stderr.strip()}")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    archive.unlink()
    return folder
