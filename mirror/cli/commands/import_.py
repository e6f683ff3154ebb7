"""`mirror import`: the images of an OCI layout, a folder or a tar archive."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from mirror.admin.archives.offered import offered
from mirror.admin.messages import (
    Absent,
    Content,
    Imported,
    ImportedImage,
    ImportOrder,
    OrderError,
    Piece,
    Progress,
    Record,
    Wanted,
)
from mirror.cli.archives.reading import Layout, open_layout, roots
from mirror.cli.orders import add_place, carry_out
from mirror.cli.progress_bar import Bar
from mirror.oci.digest import Digest
from mirror.oci.layout import LayoutInvalid, blob_path
from mirror.util.units import counted, human

SOME = 1  # exit code: some images were refused


def add(command: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    add_place(command)
    command.add_argument(
        "layout",
        type=Path,
        metavar="FILE|FOLDER",
        help="an OCI layout, as of `mirror export`, `docker save` from 25 on, or skopeo",
    )
    command.add_argument(
        "--name", metavar="IMAGE", help="the name of the only image, if the layout has none for it"
    )
    command.add_argument("--json", action="store_true", help="print an object, sizes in bytes")


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code: 1 if some images were refused.

    Raises CommandError.
    """
    try:
        with closing(open_layout(options.layout)) as layout:
            order = ImportOrder(str(options.layout), offered(roots(layout), options.name))
            result = _Importing(layout).run(options, order)
    except LayoutInvalid as error:
        raise OrderError(f"{options.layout}: {error}") from None
    except OSError as error:
        raise OrderError(f"{options.layout} cannot be read: {error.strerror}") from None
    _report(options, result)
    return SOME if any(each.reason for each in result.images) else 0


class _Importing:
    """Supplies the wanted content of a layout, with a progress bar."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._bar = Bar(sys.stderr)
        self._result: Imported | None = None

    def run(self, options: argparse.Namespace, order: ImportOrder) -> Imported:
        """Have the order carried out; raises CommandError, LayoutInvalid, OSError."""
        try:
            carry_out(options, order, self._take, self._supply)
        finally:
            self._bar.clear()
        return self._result or Imported((), 0, 0)

    def _take(self, record: Record) -> Iterator[str]:
        self._result = record if isinstance(record, Imported) else None
        return iter(())

    def _supply(self, wanted: Wanted) -> Iterator[Record]:
        """Yield each wanted content, or its absence; raises LayoutInvalid, OSError."""
        done = 0
        for number, text in enumerate(wanted.digests):
            found = self._layout.open(blob_path(Digest.parse(text)))
            if found is None:
                yield Absent(text)
                continue
            size, pieces = found
            yield Content(text, size)
            for piece in pieces:
                done += len(piece)
                self._bar.show(Progress(number, len(wanted.digests), done, wanted.bytes))
                yield Piece(len(piece), piece)


def _report(options: argparse.Namespace, result: Imported) -> None:
    """Print the result; failures go to standard error."""
    if options.json:
        fields = asdict(result)
        del fields["kind"]
        print(json.dumps(fields, indent=2))
        return
    for image in result.images:
        for line in _lines(image):
            print(line, file=sys.stderr if image.reason else sys.stdout)
    print(f"{counted(result.blobs, 'new file')}, {human(result.bytes)}")


def _lines(image: ImportedImage) -> Iterable[str]:
    if image.reason:
        return [f"mirror: {image.name} is not imported: {image.reason}"]
    lines = [f"{image.name}  {human(image.bytes)}"]
    if image.missing:
        lines.append(f"  not in the layout: {', '.join(image.missing)}")
    return lines
