"""The parts that `mirror pin`, `mirror unpin` and `mirror refresh` share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from mirror.admin.messages import Pinned, PinOrder, Record, UnpinOrder
from mirror.cli.orders import BESIDE, add_place, as_json, carry_out
from mirror.oci.errors import shown
from mirror.util.units import human

_NAMES = "nginx:1.25, or ghcr.io/a/b@sha256:...; nginx is nginx:latest"
REFUSED = 1  # exit code: an image was refused


def add_images(command: argparse.ArgumentParser, more: str = BESIDE, example: str = _NAMES) -> None:
    """Add the arguments; `more` goes into the help, `example` names images."""
    add_place(command, more)
    command.add_argument("--json", action="store_true", help="print an object, sizes in bytes")
    command.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help=example,
    )


def run_order(options: argparse.Namespace, order: PinOrder | UnpinOrder) -> int:
    """Have an order carried out; returns the exit code: 1 if an image was refused."""
    refused: list[str] = []

    def words(record: Record) -> Iterator[str]:
        if isinstance(record, Pinned):
            refused.extend(each.reference for each in record.images if each.refused)
            yield from as_json(record) if options.json else _words(record)

    code = carry_out(options, order, words)
    return REFUSED if refused else code


def _words(record: Pinned) -> Iterator[str]:
    done = "pinned" if record.pinned else "unpinned"
    for each in record.images:
        if each.refused is None:
            yield f"{done} {each.reference}: {human(each.bytes)}"
        else:
            verb = "pin" if record.pinned else "unpin"
            print(f"mirror: cannot {verb} {shown(each.reference)}: {each.refused}", file=sys.stderr)
    yield f"pinned images take {human(record.used)} of {human(record.limit)}"
