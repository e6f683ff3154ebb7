"""`mirror warm`: stores images before clients request them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from mirror.admin import client
from mirror.admin.messages import (
    ImageFor,
    OrderError,
    Record,
    Warmed,
    WarmedImage,
    WarmOrder,
    WarmPlan,
    WarmProgress,
)
from mirror.admin.messages.warm import MOST_IMAGES
from mirror.cli.orders import add_place, as_json
from mirror.cli.progress_bar import WarmBars
from mirror.image_lists.files import read_file, read_stream
from mirror.image_lists.found import ImageList, UnreadableList
from mirror.oci.errors import RegistryError
from mirror.oci.image_name import parse_image
from mirror.oci.platform import parse_platform
from mirror.settings import load_usable
from mirror.util.units import counted, duration, human

FAILED = 1  # exit code: some images are not stored
_STDIN = Path("-")
_BY = {
    "given": "as given",
    "clients": "as requested by clients",
    "machine": "that of this machine, as no client has pulled yet",
}


def add(command: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    add_place(command, "Needs a running mirror. The exit code is 1 if an image failed.")
    command.add_argument("images", nargs="*", metavar="IMAGE", help="nginx:1.25, ghcr.io/a/b:1")
    command.add_argument(
        "-f",
        "--file",
        dest="files",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a list, a compose file, Kubernetes manifests, Helm's output or values, a Dockerfile, "
        "or a list for skopeo sync; - for standard input",
    )
    command.add_argument(
        "--platform",
        dest="platforms",
        type=_platform,
        action="append",
        default=[],
        metavar="OS/ARCH",
        help="a platform to store, may be repeated; default: the platforms that clients request",
    )
    command.add_argument(
        "--leave",
        type=_pulls,
        metavar="N",
        help="spend no pull that would leave fewer than N of an upstream's limit",
    )
    command.add_argument(
        "--dry-run", action="store_true", help="print the pulls and bytes that it would cost only"
    )
    command.add_argument("--json", action="store_true", help="print the result as an object")


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code: 1 if an image failed. Raises CommandError."""
    order = WarmOrder(
        images=_images(options),
        platforms=tuple(options.platforms),
        leave=options.leave,
        dry=options.dry_run,
    )
    given = {} if options.data_dir is None else {"data_dir": options.data_dir}
    folder = load_usable(given, options.config).data_dir.absolute()
    bars = WarmBars(sys.stderr)
    last: Record | None = None
    try:
        with closing(client.ask(folder, order)) as records:
            for record in records:
                last = record
                if isinstance(record, WarmProgress):
                    bars.show(record)
                else:
                    bars.clear()
                    _print(record, json=options.json, dry=options.dry_run)
    finally:
        bars.clear()
    if not isinstance(last, Warmed):
        raise OrderError(client.BROKE_OFF)
    return FAILED if last.failed else 0


# Images


def _images(options: argparse.Namespace) -> tuple[str | ImageFor, ...]:
    """Return the images that were typed, and those of files, each once; raises OrderError."""
    found: dict[str | ImageFor, None] = {}
    for text in options.images:
        try:
            found[str(parse_image(text))] = None
        except RegistryError as error:
            raise OrderError(error.message) from None
    for file in options.files:
        for each in _listed(file):
            name = str(each.name)
            found[ImageFor(name, each.platform) if each.platform else name] = None
    if not found:
        wanted = f"no image in {', '.join(map(str, options.files))}" if options.files else ""
        raise OrderError(wanted or "expected an image, or a file with images: --file")
    if len(found) > MOST_IMAGES:
        raise OrderError(f"{len(found)} images: expected at most {MOST_IMAGES} at a time")
    return tuple(found)


def _listed(file: Path) -> ImageList:
    """Read a file; the skipped texts are named on standard error. Raises OrderError."""
    name = "standard input" if file == _STDIN else str(file)
    try:
        if file == _STDIN:
            found = read_stream(sys.stdin.buffer, os.environ)
        else:
            found = read_file(file, os.environ)
    except (UnreadableList, OSError) as error:
        raise OrderError(f"{name} {error}") from None
    for skipped in found.skipped:
        print(f"mirror: {name}:{skipped.line}: {skipped.reason}", file=sys.stderr)
    return found


def _platform(text: str) -> str:
    try:
        return str(parse_platform(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _pulls(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of pulls, 0 or more")
    return int(text)


# Records as text


def _print(record: Record, *, json: bool, dry: bool) -> None:
    if json:
        lines = as_json(record) if isinstance(record, Warmed) else ()
    else:
        lines = _words(record, dry=dry)
    for line in lines:
        print(line, flush=True)


def _words(record: Record, *, dry: bool) -> Iterator[str]:
    match record:
        case WarmPlan():
            images = f"{record.images} image{'s' * (record.images != 1)}"
            yield f"{images} for {', '.join(record.platforms)}: {_BY[record.chosen_by]}"
        case WarmedImage(failure=None):
            chosen = f" ({', '.join(record.platforms)})" if record.platforms else ""
            yield f"{record.image}{chosen}: {_cost(record) or 'stored already'}"
        case WarmedImage():
            yield f"{record.image}: failed: {record.failure}"
        case Warmed():
            yield from _result(record, dry=dry)


def _result(record: Warmed, *, dry: bool) -> Iterator[str]:
    cost = _cost(record) or "nothing"
    if dry:
        yield f"would cost {cost}"
        least = "at least " if record.unknown else ""
        needed = f"; {least}{human(record.needed)} would be needed" if record.needed else ""
        yield f"max_size has room for {human(record.room)}{needed}"
    else:
        stored = len(record.images) - record.failed
        yield (
            f"{stored} of {len(record.images)} images are stored: {cost} "
            f"in {duration(record.seconds)}"
        )
    for left in record.pulls_left:
        kept = "" if record.leave is None else f"; {record.leave} are to be left"
        yield f"{left.upstream} has {counted(left.pulls, 'pull')} left{kept}"
    failures = [each for each in record.images if each.failure is not None]
    if failures:
        yield f"{len(failures)} failed:"
    for each in failures:
        yield f"  {each.image}: {each.failure}"


def _cost(record: Warmed | WarmedImage) -> str:
    """Return pulls and bytes as text, "" for none."""
    parts = []
    if record.pulls:
        parts.append(counted(record.pulls, "pull"))
    if record.bytes:
        parts.append(human(record.bytes))
    if record.unknown:
        parts.append("bytes that are not known before")
    return " and ".join(parts)
