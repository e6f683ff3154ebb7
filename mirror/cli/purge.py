"""`mirror purge`: an image, a repository, or content by its digest is removed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from mirror.cache.records import Purge, Purged, Record
from mirror.cli.orders import add_place, carry_out
from mirror.sizes import human


def add(command: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    add_place(command)
    command.add_argument(
        "target",
        metavar="IMAGE|DIGEST|REPOSITORY",
        help="nginx:1.25, ghcr.io/a/b@sha256:..., sha256:..., or library/nginx",
    )


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code."""
    return carry_out(options, Purge(options.target), _words)


def _words(record: Record) -> Iterator[str]:
    if isinstance(record, Purged):
        stay = f"; {record.shared} stay: others need them" if record.shared else ""
        yield (
            f"purged {record.target}: {record.tags} tags, {record.files} files, "
            f"{human(record.freed)}{stay}"
        )
