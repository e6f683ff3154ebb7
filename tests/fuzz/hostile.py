"""A hostile upstream: a registry, token server and content network, by the book except for lies."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from tests.fuzz.plays import Kind, Lie, Part, Trap
from tests.fuzz.shapes import Made, made

HOME = "127.0.0.3"
_CONTENT = "127.0.0.4"
_REGISTRY = re.compile(r"/v2/(.+?)/(manifests|blobs|referrers|tags)/([^/?]+)")
_AWAY = re.compile(r"/content/(.+)/(sha256:[0-9a-f]{64})")
_INDEX = "application/vnd.oci.image.index.v1+json"
_BLOCK = 64 * 1024
_LONGEST = 256 * 1024  # bytes of a question
_CONFIG = b"{}"


@dataclass
class _Answer:
    """An answer by the book."""

    line: bytes = b"HTTP/1.1 200 OK"
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class _Question:
    method: str
    target: str
    headers: dict[str, str]

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


class Hostile:
    """An upstream with one trap at a time."""

    def __init__(self) -> None:
        self.trap = Trap(())
        self.url = ""
        self._told: Counter[Kind] = Counter()
        self._content = ""
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen on the addresses of the registry and of the content network."""
        for host in (HOME, _CONTENT):
            server = await asyncio.start_server(self._serve, host, 0, limit=_LONGEST)
            self._servers.append(server)
        self.url, self._content = (
            "http://{}:{}".format(*each.sockets[0].getsockname()) for each in self._servers
        )

    async def close(self) -> None:
        """Stop listening, and break every connection."""
        for server in self._servers:
            server.close()
        await self.hang_up()

    async def hang_up(self) -> None:
        """Remove the trap, and break every connection."""
        self.trap = Trap(())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        failures = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)
        try:
            with suppress(*failures, asyncio.CancelledError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        asked = _read(await reader.readuntil(b"\r\n\r\n"))
        kind, name = _kind(asked)
        answer = self._by_book(kind, name, asked)
        lie = self._lie(kind, asked.method) or Lie(kind)
        sent = _Sending(writer, lie, self.url + asked.target, name)
        if not lie.line:
            return await sent.ends()
        if lie.body is not None:
            answer = _of(made(lie.body, name).data, "application/octet-stream")
        answer.line = lie.line if lie.line != Lie.line else answer.line
        await sent.head(answer)
        if asked.method != "HEAD":
            await sent.body(answer.body)
        return await sent.ends()

    def _lie(self, kind: Kind, method: str) -> Lie | None:
        """Return the lie that is due, if any; of several lies, each question gets the next one."""
        fitting = [
            lie for lie in self.trap.lies if lie.kind == kind and lie.method in ("any", method)
        ]
        self._told[kind] += 1
        return fitting[self._told[kind] % len(fitting)] if fitting else None

    def _by_book(self, kind: Kind, name: str, asked: _Question) -> _Answer:
        trap = self.trap
        wants = trap.login and kind not in ("token", "content")
        if wants and "authorization" not in asked.headers:
            return self._challenged(name)
        reference = asked.path.rpartition("/")[2]
        if kind in ("tag", "manifest"):
            return _manifest(made(trap.document, name), reference)
        if kind == "blob" and trap.away:
            to = f"{self._content}/content/{name}/{reference}"
            return _Answer(b"HTTP/1.1 307 T", {"Location": to})
        if kind in ("blob", "content"):
            return _blob(made(trap.blob, name), reference, asked.headers.get("range", ""))
        return _listed(kind, name)

    def _challenged(self, name: str) -> _Answer:
        scope = f',scope="repository:{name}:pull"' if name else ""
        answer = _of(b"{}", "application/json")
        answer.line = b"HTTP/1.1 401 U"
        answer.headers["WWW-Authenticate"] = f'Bearer realm="{self.url}/token",service="r"{scope}'
        return answer


class _Sending:
    """One answer on its way, changed by a lie."""

    def __init__(self, writer: asyncio.StreamWriter, lie: Lie, here: str, name: str) -> None:
        self._writer = writer
        self._lie = lie
        self._names = {b"{here}": here.encode(), b"{name}": name.encode()}

    async def head(self, answer: _Answer) -> None:
        """Send the bytes before the body."""
        lie = self._lie
        await self._blocks(lie.before)
        self._writer.write(answer.line + b"\r\n")
        for name, value in answer.headers.items():
            if name not in lie.without:
                self._writer.write(f"{name}: {value}\r\n".encode("latin-1"))
        await self._blocks(lie.fields)
        length = len(answer.body) if lie.claim is None else lie.claim
        self._writer.write(_framing(lie, length) + b"\r\n")
        await self._writer.drain()

    async def body(self, body: bytes) -> None:
        """Send the body, up to the place where the lie stops it."""
        lie = self._lie
        chunked = lie.framing in ("chunked", "both")
        for piece in _pieces(body[: lie.stop], lie, chunked=chunked):
            if lie.pause:
                await asyncio.sleep(lie.pause)
            self._writer.write(piece)
            await self._writer.drain()
        if chunked and lie.stop is None:
            self._writer.write(b"0\r\n\r\n")
            await self._writer.drain()

    async def ends(self) -> bool:
        """End an answer as the lie says; True if another answer may follow."""
        match self._lie.then:
            case "hangs":
                await asyncio.Event().wait()
            case "resets":
                return False
            case "closes":
                self._writer.close()
                await self._writer.wait_closed()
                return False
        return self._lie.framing != "none"

    async def _blocks(self, parts: tuple[Part, ...]) -> None:
        for part in parts:
            data = part.data
            for name, meant in self._names.items():
                data = data.replace(name, meant)
            for block in Part(data, part.times).blocks():
                self._writer.write(block)
                await self._writer.drain()


def _framing(lie: Lie, length: int) -> bytes:
    told, chunked = b"Content-Length: %d\r\n" % length, b"Transfer-Encoding: chunked\r\n"
    match lie.framing:
        case "length":
            return told
        case "chunked":
            return chunked
        case "both":
            return told + chunked
        case "two lengths":
            return told + b"Content-Length: %d\r\n" % (length + 1)
    return b"Connection: close\r\n"


def _pieces(body: bytes, lie: Lie, *, chunked: bool) -> Iterator[bytes]:
    """Cut a body as the lie says; pieces without a pause between them go together."""
    size = max(lie.piece, 1)
    together = 1 if lie.pause else max(1, _BLOCK // size)
    for start in range(0, len(body), size * together):
        block = body[start : start + size * together]
        if not chunked:
            yield block
            continue
        cut = (block[at : at + size] for at in range(0, len(block), size))
        yield b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in cut)


def _read(head: bytes) -> _Question:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, _, rest = first.partition(" ")
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return _Question(method, rest.rpartition(" ")[0], headers)


def _kind(asked: _Question) -> tuple[Kind, str]:
    if asked.path == "/token":
        scope = parse_qs(urlsplit(asked.target).query).get("scope", [""])[0]
        return "token", scope.split(":")[1] if scope.count(":") > 1 else ""
    if found := _AWAY.fullmatch(asked.path):
        return "content", found[1]
    found = _REGISTRY.fullmatch(asked.path)
    if found is None:
        return "ping", ""
    name, noun, reference = found.groups()
    kinds: dict[str, Kind] = {"blobs": "blob", "referrers": "referrers", "tags": "tags"}
    return kinds.get(noun) or ("manifest" if ":" in reference else "tag"), name


def _listed(kind: Kind, name: str) -> _Answer:
    match kind:
        case "token":
            return _of(json.dumps({"token": "t", "expires_in": 300}).encode(), "application/json")
        case "tags":
            return _of(json.dumps({"name": name, "tags": ["latest"]}).encode(), "application/json")
        case "referrers":
            return _of(b'{"schemaVersion":2,"manifests":[]}', _INDEX)
    return _of(b"{}", "application/json")


def _of(body: bytes, media_type: str) -> _Answer:
    return _Answer(headers={"Content-Type": media_type}, body=body)


def _manifest(top: Made, reference: str) -> _Answer:
    every = {reference if ":" not in reference else top.digest: top.data}
    every |= {Made(each, "").digest: each for each in top.inner}
    if (data := every.get(reference)) is None:
        return _missing()
    whole = Made(data, top.media_type)
    media_type = whole.media_type
    if b'"mediaType":"' in data[:100]:
        media_type = data.split(b'"mediaType":"', 1)[1].split(b'"', 1)[0].decode()
    answer = _of(data, media_type)
    answer.headers["Docker-Content-Digest"] = whole.digest
    return answer


def _blob(blob: Made, digest: str, wanted: str) -> _Answer:
    known = {blob.digest: blob.data, Made(_CONFIG, "").digest: _CONFIG}
    if (data := known.get(digest)) is None:
        return _missing()
    answer = _of(data, "application/octet-stream")
    if found := re.fullmatch(r"bytes=(\d+)-(\d*)", wanted):
        start, stop = int(found[1]), int(found[2] or len(data) - 1) + 1
        answer.line, answer.body = b"HTTP/1.1 206 P", data[start:stop]
        answer.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
    return answer


def _missing() -> _Answer:
    return _Answer(b"HTTP/1.1 404 N", {"Content-Type": "application/json"}, b'{"errors":[]}')
