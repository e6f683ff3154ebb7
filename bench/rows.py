"""The rows: what can be asked for by name, where each is measured, and what it needs there."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from bench import cold, footprint, large, warm
from bench.figures import Figure
from bench.site import Scale, Site, open_site

FULL = Scale(rounds=5, seconds=2, cold_rounds=7, startup_blobs=100_000, large_blobs=1_000_000)
QUICK = Scale(rounds=2, seconds=1, cold_rounds=2, startup_blobs=10_000, large_blobs=20_000)

Place = Literal["free", "tls", "held"]


@dataclass(frozen=True, slots=True)
class Row:
    """One thing to measure, and where: before a hub that is held back, or over TLS."""

    name: str
    measure: Callable[[Site], list[Figure]]
    images: Callable[[Scale], list[str]] = lambda _: []
    place: Place = "free"
    limited: bool = False  # nginx is measured, too


ROWS = (
    Row("tag", warm.tag_manifest, lambda _: warm.SMALL, limited=True),
    Row("digest", warm.digest_manifest, lambda _: warm.SMALL, limited=True),
    Row("config", warm.config_blob, lambda _: warm.SMALL, limited=True),
    Row("big", warm.big_blob, lambda _: warm.BIG, limited=True),
    Row("tls", warm.big_blob_over_tls, lambda _: warm.BIG, "tls", limited=True),
    Row("cold", cold.image, cold.cold_images),
    Row("first-byte", cold.first_byte, cold.first_byte_images),
    Row("herd", cold.herd, cold.herd_images, limited=True),
    Row("held", cold.held_image, cold.cold_images, "held"),
    Row("memory", footprint.memory, lambda _: footprint.MEMORY),
    Row("startup", footprint.startup),
    Row("large", large.starts),
)


def measure(rows: Sequence[Row], scale: Scale, say: Callable[[str], None]) -> Iterator[Figure]:
    """Measure rows, each figure as it is known."""
    with tempfile.TemporaryDirectory(prefix="mirror-bench-") as folder:
        for place in get_args(Place):
            if here := [row for row in rows if row.place == place]:
                yield from _at_site(Path(folder, place), here, scale, say)


def _at_site(
    folder: Path, rows: Sequence[Row], scale: Scale, say: Callable[[str], None]
) -> Iterator[Figure]:
    images = _images(rows, scale)
    limited = _images([row for row in rows if row.limited], scale)
    say(f"the hub makes {len(images)} images")
    place = rows[0].place
    rate = cold.HELD if place == "held" else None
    tls = place == "tls"
    with open_site(folder, images or warm.SMALL, scale, rate, tls=tls, limited=limited) as site:
        for row in rows:
            say(f"measuring {row.name}")
            yield from row.measure(site)
        # Else they have not worked the same.
        if rows == [row for row in ROWS if row.place == "free"]:
            servers = (site.mirror, site.registry)
            yield from footprint.resident("after", "after all rows above", servers)


def _images(rows: Sequence[Row], scale: Scale) -> list[str]:
    return list(dict.fromkeys(image for row in rows for image in row.images(scale)))
