"""`mirror export`: stored images as an OCI layout, a folder or a tar archive."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict

from mirror.admin.archives.exporting import Exporting
from mirror.admin.archives.tar_writer import LayoutWriter
from mirror.admin.messages import Exported, ExportedImage, ExportOrder, OrderError
from mirror.cli.archives.writing import open_writer
from mirror.cli.orders import add_place, carry_out
from mirror.util.units import counted, human

SOME = 1  # exit code: some images could not be exported
_ENDING = {signal.SIGTERM, signal.SIGHUP, signal.SIGINT}


def add(command: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    add_place(command)
    command.add_argument(
        "image", nargs="+", metavar="IMAGE", help="nginx:1.25, ghcr.io/a/b@sha256:..."
    )
    command.add_argument(
        "--output",
        required=True,
        metavar="FILE|FOLDER",
        help="a tar archive if it ends in .tar, `-` for one on standard output, else a new folder",
    )
    command.add_argument(
        "--platform",
        action="append",
        default=[],
        metavar="OS/ARCH",
        help="such as linux/arm64; may be repeated; default: all that are stored",
    )
    command.add_argument("--force", action="store_true", help="replace an existing file")
    command.add_argument("--json", action="store_true", help="print an object, sizes in bytes")


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code: 1 if some images could not be exported.

    Raises CommandError.
    """
    order = _order(options)
    _end_cleanly()
    writer: LayoutWriter | None = None
    # A signal before `writer` is known would leave its file.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        writer = open_writer(options.output, sys.stdout.buffer, force=options.force)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        exporting = Exporting(writer)
        carry_out(options, order, exporting.take)
        result = exporting.result or Exported((), 0, 0)
        good = [image for image in result.images if not image.reason]
        if good:
            exporting.finish(good)
        else:
            writer.abandon()
    except BaseException:
        if writer is not None:
            writer.abandon()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    _report(options, result)
    return SOME if len(good) < len(result.images) else 0


def _end_cleanly() -> None:
    """Let signals leave nothing half written; a signal that `nohup` ignores stays ignored."""
    for number in _ENDING - {signal.SIGINT}:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def _end(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _order(options: argparse.Namespace) -> ExportOrder:
    try:
        return ExportOrder(tuple(options.image), tuple(options.platform))
    except ValueError:
        raise OrderError("expected 1 to 4096 images, and up to 64 platforms") from None


def _report(options: argparse.Namespace, result: Exported) -> None:
    """Print the result; failures, and words beside an archive, go to standard error."""
    out = sys.stderr if options.output == "-" else sys.stdout
    if options.json:
        fields = asdict(result)
        del fields["kind"]
        print(json.dumps(fields, indent=2), file=out)
        return
    for image in result.images:
        for line in _lines(image):
            print(line, file=sys.stderr if image.reason else out)
    if any(not image.reason for image in result.images):
        print(f"{counted(result.blobs, 'file')}, {human(result.bytes)}: {options.output}", file=out)


def _lines(image: ExportedImage) -> Iterator[str]:
    if image.reason:
        yield f"mirror: {image.name} is not exported: {image.reason}"
        return
    yield f"{image.name}  {human(image.bytes)}"
    platforms = [each for each in image.platforms if each != "any"]
    if platforms:
        yield f"  platforms: {', '.join(platforms)}"
    if image.missing:
        yield f"  not stored: {', '.join(image.missing)}"
