"""`mirror ls`: the stored images."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from typing import get_args

from mirror.admin.messages import LsOrder, Record, StoredImages
from mirror.admin.messages.ls import MOST_LISTED, Sort
from mirror.cli.orders import add_place, as_json, carry_out
from mirror.cli.table import ago
from mirror.util.units import human


def add(command: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    add_place(command)
    command.add_argument(
        "--sort",
        choices=get_args(Sort),
        default="name",
        help="by name, by bytes (largest first), or by last use (newest first)",
    )
    command.add_argument(
        "--limit", type=_limit, metavar="NUMBER", help=f"list at most so many, up to {MOST_LISTED}"
    )
    command.add_argument(
        "--after", metavar="IMAGE", help="go on behind this image, the last one of a page"
    )
    command.add_argument("--json", action="store_true", help="print an object, sizes in bytes")
    command.add_argument(
        "pattern",
        nargs="?",
        metavar="PATTERN",
        help="names as docker has them: nginx, nginx:1.*, 'library/*', 'ghcr.io/*'; "
        "* is any text, ? any character",
    )


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code."""
    order = LsOrder(options.pattern, options.sort, options.limit, options.after)
    if options.json:
        return carry_out(options, order, as_json)
    return carry_out(options, order, partial(_words, options.pattern))


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) <= MOST_LISTED):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 1 to {MOST_LISTED}")
    return int(text)


def _words(pattern: str | None, record: Record) -> Iterator[str]:
    if not isinstance(record, StoredImages):
        return
    if not record.images:
        which = "no image is stored" if pattern is None else "no stored image has such a name"
        yield "no more images" if record.total else which
        return
    yield f"{'SIZE':>10} {'ALONE':>10} {'CHECKED':>8} {'USED':>8}  IMAGE"
    for image in record.images:
        sizes = f"{human(image.bytes):>10} {human(image.alone):>10}"
        mark = "  (pinned)" if image.pinned else ""
        times = f"{ago(image.checked):>8} {ago(image.used):>8}"
        yield f"{sizes} {times}  {image.reference}{mark}"
    if record.after is not None:
        shown = len(record.images)
        yield f"{shown} of {record.total}; the next: --after {record.after}"
