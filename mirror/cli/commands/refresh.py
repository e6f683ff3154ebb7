"""`mirror refresh`: asks upstream about tags now."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from mirror.admin.messages import Record, Refreshed, RefreshOrder
from mirror.cli.orders import as_json, carry_out
from mirror.cli.pinned import REFUSED, add_images
from mirror.oci.errors import shown


def add(command: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    add_images(command, "Needs a running mirror.", "nginx:1.25; nginx is nginx:latest")


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code: 1 if upstream did not tell about a tag."""
    failed: list[str] = []

    def words(record: Record) -> Iterator[str]:
        if isinstance(record, Refreshed):
            failed.extend(each.reference for each in record.images if each.refused)
            yield from as_json(record) if options.json else _words(record)

    code = carry_out(options, RefreshOrder(tuple(options.images)), words)
    return REFUSED if failed else code


def _words(record: Refreshed) -> Iterator[str]:
    for each in record.images:
        if each.refused is not None:
            name = shown(each.reference)
            print(f"mirror: cannot refresh {name}: {each.refused}", file=sys.stderr)
        elif not each.changed:
            yield f"{each.reference} is {each.digest}, as before"
        else:
            before = f", before {each.before}" if each.before else ", not stored before"
            yield f"{each.reference} is {each.digest} now{before}"
