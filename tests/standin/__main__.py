"""The stand-in as a separate process, for benchmarks and real clients.

One JSON line on standard output has its address and its images. Then `GET /_standin/stats` on the
registry's port returns the counts of requests so far; `POST /_standin/reset` clears them. SIGTERM
ends the process.
"""

import argparse
import asyncio
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .hub import Hub
from .images import Image, make_image
from .terms import Auth, Terms

UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}


@dataclass(frozen=True)
class Wanted:
    """An image to make: its name, and the sizes of its layers."""

    repository: str
    tag: str
    layer_sizes: tuple[int, ...]

    @classmethod
    def parse(cls, spec: str) -> "Wanted":
        """Read `library/nginx:latest=30M,5M,1K`."""
        name, equals, sizes = spec.partition("=")
        repository, _, tag = name.partition(":")
        if not (repository and equals):
            raise argparse.ArgumentTypeError(f"{spec!r} is not NAME[:TAG]=SIZE[,SIZE...]")
        return cls(repository, tag or "latest", tuple(map(_size, sizes.split(","))))

    @classmethod
    def big(cls, mebibytes: int) -> "Wanted":
        """Name an image after the size of its one layer."""
        return cls(f"library/big-{mebibytes}", "latest", (mebibytes * UNITS["M"],))

    def make(self, folder: Path) -> Image:
        """Make the image, with its layers in files."""
        return make_image(f"{self.repository}:{self.tag}", self.layer_sizes, folder=folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until SIGTERM or SIGINT."""
    asked = _parser().parse_args(arguments)
    wanted = [*asked.images, *map(Wanted.big, asked.big_mib)]
    auth: Auth = "none" if asked.no_auth else "bearer"
    terms = Terms(auth=auth, limit=asked.limit, redirect=not asked.no_redirect)
    with tempfile.TemporaryDirectory(prefix="standin-", dir=asked.folder) as folder:
        made = [(each, each.make(Path(folder))) for each in wanted]
        asyncio.run(_serve(asked, terms, made))


async def _serve(
    asked: argparse.Namespace, terms: Terms, images: Sequence[tuple[Wanted, Image]]
) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    hub = Hub(terms, host=asked.host, port=asked.port, advertise=asked.advertise, rate=asked.rate)
    for wanted, image in images:
        hub.add(image, wanted.repository, wanted.tag)
    async with hub:
        sys.stdout.write(json.dumps(_description(hub, images)) + "\n")
        sys.stdout.flush()
        await stopped.wait()


def _description(hub: Hub, images: Sequence[tuple[Wanted, Image]]) -> dict[str, Any]:
    return {
        "url": hub.url,
        "realm": hub.realm,
        "cdn": hub.cdn_url,
        "images": [
            {
                "repository": wanted.repository,
                "tag": wanted.tag,
                "digest": image.digest,
                "media_type": image.media_type,
                "size": image.size,
                "config": image.config.digest,
                "blobs": [{"digest": blob.digest, "size": blob.size} for blob in image.blobs],
            }
            for wanted, image in images
        ],
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.standin", description=__doc__)
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--advertise", metavar="HOST", help="name clients are sent to, where it is another")
    add("--port", type=int, default=0, help="the registry's; the other two are any free ones")
    add("--limit", type=int, help="pulls in six hours; without it, no limit")
    add("--rate", type=float, help="bytes per second of all blob bodies together")
    add("--no-auth", action="store_true", help="ask nobody for a token")
    add("--no-redirect", action="store_true", help="send blobs, instead of a CDN's address")
    add(
        "--images",
        metavar="NAME[:TAG]=SIZE[,SIZE...]",
        type=Wanted.parse,
        nargs="+",
        default=[],
        help="images to hold, with the sizes of their layers: library/nginx:latest=30M,5M,1K",
    )
    add(
        "--big-mib",
        metavar="MIB",
        type=int,
        nargs="+",
        default=[],
        help="images of one layer, called library/big-MIB:latest",
    )
    add("--folder", type=Path, help="where to keep the layers while it runs; /tmp without it")
    return parser


def _size(text: str) -> int:
    unit = text[-1:].upper() if not text[-1:].isdigit() else ""
    number = text[: len(text) - len(unit)]
    if unit not in UNITS or not number.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 1000, 64K, 30M or 1G")
    return int(number) * UNITS[unit]


if __name__ == "__main__":
    main()
