"""`mirror purge`: removes an image, a repository, or content by its digest."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from mirror.admin.messages import OrderError, Purged, PurgeOrder, Record
from mirror.cli.orders import BESIDE, add_dry_run, add_place, as_json, carry_out
from mirror.oci.errors import RegistryError
from mirror.oci.image_name import parse_target
from mirror.oci.names import Repository
from mirror.util.units import counted, human

_EXAMPLES = (
    "`mirror purge nginx:1.25` removes one tag, `mirror purge nginx` all of the repository "
    "docker.io/library/nginx, after a question."
)
LEFT = 1  # exit code: nothing was removed, as the answer was no


def add(command: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    add_place(command, f"{BESIDE} {_EXAMPLES}")
    add_dry_run(command)
    command.add_argument(
        "--yes", action="store_true", help="remove a whole repository without asking"
    )
    command.add_argument("--json", action="store_true", help="print an object, sizes in bytes")
    command.add_argument(
        "target",
        metavar="IMAGE|DIGEST|REPOSITORY",
        help="nginx:1.25, ghcr.io/a/b@sha256:..., sha256:...; nginx without a tag is the whole "
        "repository",
    )


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code: 1 if the answer was no to removing a whole repository.

    Raises CommandError.
    """
    asks = not (options.yes or options.dry_run) and _is_whole(options.target)
    if asks and not _may_go(options):
        print("nothing is removed", file=sys.stderr)
        return LEFT
    words = as_json if options.json else _words
    return carry_out(options, PurgeOrder(options.target, options.dry_run), words)


def _is_whole(target: str) -> bool:
    """Whether a whole repository is named; an invalid name is left for the order to refuse."""
    try:
        return isinstance(parse_target(target), Repository)
    except RegistryError:
        return False


def _may_go(options: argparse.Namespace) -> bool:
    """Ask for confirmation; raises OrderError without a terminal."""
    purged: list[Purged] = []

    def note(record: Record) -> Iterator[str]:
        purged.extend([record] if isinstance(record, Purged) else [])
        return iter(())

    carry_out(options, PurgeOrder(options.target, dry=True), note)
    [would] = purged
    whole = f"{would.target} is a whole repository: {_what(would)}"
    if sys.stdin is None or not sys.stdin.isatty():
        raise OrderError(f"{whole}; --yes removes it without asking")
    print(f"{whole}. Remove it? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _words(record: Record) -> Iterator[str]:
    if isinstance(record, Purged):
        done = "would purge" if record.dry else "purged"
        yield f"{done} {record.target}: {_what(record)}"


def _what(record: Purged) -> str:
    stay = f"; kept: {counted(record.shared, 'file')} of other images" if record.shared else ""
    tags, files = counted(record.tags, "tag"), counted(record.files, "file")
    return f"{tags}, {files}, {human(record.freed)}{stay}"
