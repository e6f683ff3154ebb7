"""`mirror du`: the space taken, by image."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from mirror.admin.messages import DuOrder, Record, Usage
from mirror.cli.orders import add_place, as_json, carry_out
from mirror.util.units import human


def add(command: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    add_place(command)
    command.add_argument("--json", action="store_true", help="print an object, sizes in bytes")


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code."""
    return carry_out(options, DuOrder(), as_json if options.json else _words)


def _words(record: Record) -> Iterator[str]:
    """Yield repositories, each with its images, then other uses of space."""
    if not isinstance(record, Usage):
        return
    yield f"{'SIZE':>11} {'ALONE':>11}  REPOSITORY, IMAGE"
    for repository in record.repositories:
        sizes = f"{human(repository.bytes):>11} {human(repository.alone):>11}"
        yield f"{sizes}  {repository.repository}"
        for image in repository.images:
            yield f"{human(image.bytes):>11} {human(image.alone):>11}    {image.reference}"
    yield ""
    parts = (
        ("shared by several repositories", record.shared),
        ("of no repository yet", record.unclaimed),
        ("of pinned images", record.pinned),
        ("partial downloads", record.partial),
        ("downloads that run", record.promised),
        ("removed, still being read", record.leaving),
        ("in quarantine", record.quarantine),
        ("the index", record.index),
    )
    for what, size in parts:
        if size:
            yield f"{human(size):>11}  {what}"
    yield f"{human(record.used):>11}  in all, of {human(record.limit)}"
