"""The baiting: hostile clients that walk into a trap, and check their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from tests.fuzz.hostile import Hostile
from tests.fuzz.plays import Ask, Trap
from tests.fuzz.shapes import made
from tests.fuzz.wire import Talking
from tests.standin.blobs import digest_of

_EACH = 1.5  # s after which the next ask begins beside those without an answer yet
_ACCEPT = (
    "Accept: application/vnd.oci.image.index.v1+json\r\n"
    "Accept: application/vnd.oci.image.manifest.v1+json\r\n"
)


class Baiting:
    """Plays traps of the upstream `hostile`, which the daemon knows as `name`, or under no name."""

    def __init__(self, hostile: Hostile, name: str, talking: Talking) -> None:
        self._hostile = hostile
        self._name = name
        self._talking = talking
        self.wrong: list[str] = []

    async def play(self, trap: Trap, repository: str) -> None:
        """Lay a trap in a repository, and have clients walk into it; to be cancelled."""
        self._hostile.trap = trap
        async with asyncio.TaskGroup() as group:
            for ask in trap.asks:
                asked = [
                    group.create_task(self._ask(path, ask))
                    for path in _paths(ask, trap, repository)
                ]
                await asyncio.wait(asked, timeout=_EACH)

    async def _ask(self, path: str, ask: Ask) -> None:
        more = "Range: bytes=15000000-\r\n" if ask.what == "far" else ""
        method = "HEAD" if ask.what == "head" else "GET"
        separator = "&" if "?" in path else "?"
        target = f"{path}{separator}ns={self._name}" if self._name else path
        answer = await self._talking.ask(target, method, ask.reads, _ACCEPT + more)
        self._prove(path, answer)

    def _prove(self, path: str, answer: bytes) -> None:
        """Check that a complete body under a digest has that digest."""
        head, _, body = answer.partition(b"\r\n\r\n")
        digest = path.rpartition("/")[2]
        whole = b"\r\nContent-Length: %d\r\n" % len(body) in head + b"\r\n"
        content = "/referrers/" not in path and digest.startswith("sha256:")
        granted = head.startswith(b"HTTP/1.1 200 ")
        if granted and content and whole and body and digest_of(body) != digest:
            self.wrong.append(f"wrong bytes were completed: {path}")


def _paths(ask: Ask, trap: Trap, name: str) -> Iterator[str]:
    """Return the path for each client of the crowd: the same, or a different one for each."""
    base = f"/v2/{name}"
    same = {
        "tag": lambda: f"{base}/manifests/latest",
        "head": lambda: f"{base}/manifests/latest",
        "manifest": lambda: f"{base}/manifests/{made(trap.document, name).digest}",
        "blob": lambda: f"{base}/blobs/{made(trap.blob, name).digest}",
        "far": lambda: f"{base}/blobs/{made(trap.blob, name).digest}",
        "tags": lambda: f"{base}/tags/list",
    }
    for number in range(ask.crowd):
        other = digest_of(f"{name} {number}".encode())
        match ask.what:
            case "manifests":
                yield from _documents(trap, f"{name}-{number}")
            case "made up":
                yield f"{base}/blobs/{other}"
            case "page":
                yield f"{base}/tags/list?n=1000&last=t{number}"
            case "referrers":
                yield f"{base}/referrers/{other}"
            case _:
                yield same[ask.what]()


def _documents(trap: Trap, name: str) -> Iterator[str]:
    """Return the paths of all documents of a repository, by tag and by digest."""
    yield f"/v2/{name}/manifests/latest"
    for each in made(trap.document, name).inner:
        yield f"/v2/{name}/manifests/{digest_of(each)}"
