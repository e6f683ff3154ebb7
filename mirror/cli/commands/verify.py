"""`mirror verify`: hashes stored files again, and discards damaged ones."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Iterator

from mirror.admin.messages import DamagedBlob, Record, Verified, VerifyOrder
from mirror.cli.orders import add_dry_run, add_place, as_json, carry_out
from mirror.settings import parse_size
from mirror.util.units import counted, human


def add(command: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    add_place(command)
    add_dry_run(command)
    command.add_argument(
        "--sample",
        type=_sample,
        default={},
        metavar="N%|N",
        help="a share or a number of files, chosen at random; default: all",
    )
    command.add_argument(
        "--rate", type=_rate, metavar="SIZE", help="most bytes to read per second, such as 50MiB"
    )
    command.add_argument(
        "--json",
        action="store_true",
        help="print an object, sizes in bytes; damaged files go to standard error",
    )


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code: 1 if a file was damaged."""
    order = VerifyOrder(**options.sample, rate=options.rate, dry=options.dry_run)
    return carry_out(options, order, _object if options.json else _words)


def _object(record: Record) -> Iterable[str]:
    """Write the result as an object; each damaged file, which comes before, on standard error."""
    if isinstance(record, DamagedBlob):
        print(f"mirror: {record.digest}: {record.reason}", file=sys.stderr)
        return ()
    return as_json(record)


def _words(record: Record) -> Iterator[str]:
    if isinstance(record, DamagedBlob):
        yield f"{record.digest}: {record.reason}"
    elif isinstance(record, Verified):
        became = "wrong, and left as they are" if record.dry else "wrong and discarded"
        right = f"{record.wrong} {became}" if record.wrong else "all right"
        yield f"verified {counted(record.blobs, 'file')}, {human(record.bytes)}: {right}"


def _sample(text: str) -> dict[str, float | int]:
    number = text.removesuffix("%")
    try:
        if number != text:
            percent = float(number)
            if math.isfinite(percent) and 0 < percent <= 100:
                return {"percent": percent}
        elif number.isascii() and number.isdigit() and int(number[:19]) > 0:
            return {"count": int(number[:19])}
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(
        f"{text!r}: expected a share above 0% up to 100%, such as 5%, or a number of files"
    )


def _rate(text: str) -> int:
    try:
        rate = parse_size(text)
    except ValueError:
        rate = 0
    if not 0 < rate < 2**63:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected bytes a second, above 0, with or without a suffix, such as 50MiB"
        )
    return rate
