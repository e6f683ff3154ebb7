"""`mirror gc`: removes useless files, and evicts content beyond the bound."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from mirror.admin.messages import Collected, GcOrder, Record
from mirror.cli.orders import add_dry_run, add_place, as_json, carry_out
from mirror.util.units import counted, human


def add(command: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    add_place(command)
    add_dry_run(command)
    command.add_argument("--json", action="store_true", help="print an object, sizes in bytes")


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code."""
    return carry_out(options, GcOrder(dry=options.dry_run), as_json if options.json else _words)


def _words(record: Record) -> Iterator[str]:
    if isinstance(record, Collected):
        done = "would free" if record.dry else "freed"
        yield (
            f"{done} {human(record.freed)}: {counted(record.partials, 'partial download')}, "
            f"{counted(record.orphans, 'file')} without an entry in the index, "
            f"{counted(record.evicted, 'file')} evicted for max_size; "
            f"{counted(record.rows, 'entry', 'entries')} without a file"
        )
