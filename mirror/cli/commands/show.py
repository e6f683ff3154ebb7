"""`mirror show`: the stored content of an image or a repository."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from mirror.admin.messages import PlatformImage, Record, ShownImage, ShowOrder
from mirror.cli.orders import BESIDE, add_place, as_json, carry_out
from mirror.cli.table import ago, fitted
from mirror.util.plain_text import plain
from mirror.util.units import human

_MOST = 20  # names on a line of tags
_EXAMPLES = (
    "`mirror show nginx:1.25` shows an image, `mirror show nginx` the repository "
    "docker.io/library/nginx with its tags."
)


def add(command: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    add_place(command, f"{BESIDE} {_EXAMPLES}")
    command.add_argument("--json", action="store_true", help="print an object, sizes in bytes")
    command.add_argument(
        "target",
        metavar="IMAGE|REPOSITORY",
        help="nginx:1.25, ghcr.io/a/b@sha256:...; nginx without a tag is the repository",
    )


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code."""
    return carry_out(options, ShowOrder(options.target), as_json if options.json else _words)


def _words(record: Record) -> Iterator[str]:
    if not isinstance(record, ShownImage):
        return
    pinned = "  (pinned)" if record.pinned else ""
    yield f"{record.reference}{pinned}"
    yield from (f"  {name:<9}{value}" for name, value in _facts(record) if value)
    if not record.digest:
        yield from _tags(record)
        return
    for platform in record.platforms:
        yield ""
        yield from _platform(platform)
    if record.attached:
        yield ""
        yield "attached (claims that the mirror does not verify):"
        for each in record.attached:
            what = plain(f"{each.what}, {each.media_type}" if each.media_type else each.what, 200)
            yield f"  {each.digest}  {what}"


def _facts(record: ShownImage) -> Iterator[tuple[str, str]]:
    yield "digest", record.digest
    yield "type", plain(record.media_type, 128)
    yield "size", f"{human(record.bytes)}, alone {human(record.alone)}"
    own = [tag for tag in record.tags if record.reference == f"{record.repository}:{tag.tag}"]
    fresh = ", fresh" if own and own[0].fresh else ""
    yield "checked", f"{ago(record.checked)} ago{fresh}" if record.checked else ""
    yield "used", f"{ago(record.used)} ago" if record.used else ""
    if record.digest:
        more = len(record.tags) - _MOST
        names = ", ".join(tag.tag for tag in record.tags[:_MOST])
        yield "tags", f"{names} and {more} more" if more > 0 else names
    for parent in record.parents:
        yield "index", parent


def _tags(record: ShownImage) -> Iterator[str]:
    yield ""
    yield f"{'CHECKED':>8}  TAG, DIGEST"
    for tag in record.tags:
        mark = "  (pinned)" if tag.pinned else ""
        yield f"{ago(tag.checked):>8}  {tag.tag}{mark}"
        yield f"{'':>8}    {tag.digest}"
    for digest in record.untagged:
        yield f"{'':>8}  {digest}  (no tag)"


def _platform(image: PlatformImage) -> Iterator[str]:
    name = plain(image.platform, 128) or "without a platform"
    if not image.stored:
        yield f"{name}  not stored"
        yield f"  {image.digest}"
        return
    made = f", created {plain(image.created, 40)}" if image.created else ""
    yield f"{name}  {human(image.bytes)}, alone {human(image.alone)}{made}"
    yield f"  {image.digest}"
    if image.layers:
        yield f"  {'SIZE':>10} {'SHARED':>6}  LAYER"
    for layer in image.layers:
        command = plain(layer.command, 1000) if layer.command else layer.digest
        stored = "" if layer.stored else "not stored: "
        yield fitted(f"  {human(layer.size):>10} {layer.shared:>6}  {stored}{command}")
