"""Commands without a daemon, not configured for the mirror: they pull by its address."""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.real.engines import Held, held_of
from tests.real.processes import PATH, Command, environment, run

from .build import BIN

Words = Callable[[str, Path], Command]


def _crane(image: str, layout: Path) -> Command:
    return ["crane", "pull", "--format=oci", image, layout]


def _oras(image: str, layout: Path) -> Command:
    return ["oras", "copy", "--from-plain-http", image, "--to-oci-layout", f"{layout}:1"]


def _regctl(image: str, layout: Path) -> Command:
    host = f"reg={image.partition('/')[0]},tls=disabled"
    return ["regctl", "image", "copy", "--host", host, image, f"ocidir://{layout}:1"]


TOOLS: dict[str, Words] = {"crane": _crane, "oras": _oras, "regctl": _regctl}


async def copied(tool: str, image: str, folder: Path) -> None:
    """Have a tool copy an image into an empty folder, with all children of an index."""
    words = TOOLS[tool](image, folder / "layout")
    await run(*words, env=environment(folder, PATH=f"{BIN}:{PATH}"))


async def pulled(tool: str, image: str, folder: Path) -> Held:
    """Have a tool copy an image into an empty folder, and hash the files."""
    await copied(tool, image, folder)
    layout = folder / "layout"

    def content(digest: str) -> bytes:
        return (layout / "blobs" / digest.replace(":", "/")).read_bytes()

    [entry] = json.loads((layout / "index.json").read_bytes())["manifests"]
    manifest = content(entry["digest"])
    document: dict[str, Any] = json.loads(manifest)
    layers = [content(layer["digest"]) for layer in document["layers"]]
    return held_of(manifest, content(document["config"]["digest"]), layers)


async def chart_pulled(reference: str, version: str, folder: Path) -> dict[str, bytes]:
    """Have helm pull a chart into an empty folder; returns its files."""
    words: Command = ["helm", "pull", f"oci://{reference}", "--version", version, "--plain-http"]
    await run(*words, "--destination", folder, env=environment(folder, PATH=f"{BIN}:{PATH}"))
    return _unpacked(folder)


def _unpacked(folder: Path) -> dict[str, bytes]:
    [archive] = folder.glob("*.tgz")
    with tarfile.open(archive) as tar:
        files = {entry.name: tar.extractfile(entry) for entry in tar if entry.isfile()}
        return {name: file.read() for name, file in files.items() if file}
