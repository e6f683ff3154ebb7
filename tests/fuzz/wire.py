"""The wire of hostile clients: raw sockets from a separate address, each with its manner."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress

from tests.fuzz.plays import Ends, Part, Reads, Talk

HOME = "127.0.0.2"  # the address of hostile clients, which is not the honest client's
_SIP, _SIP_EVERY = 500, 0.05  # bytes, s
_LEAVES_AFTER = 0.1  # s
_KEPT = 8 * 1024 * 1024  # bytes of an answer that are kept and checked
_SMALL = 4096  # bytes of a reader's buffer that takes nothing
_LONGEST = 64 * 1024


class Talking:
    """Plays talks to the daemon at an address. `wrong` are the answers that must not be."""

    def __init__(self, address: tuple[str, int], names: Mapping[str, str]) -> None:
        self._address = address
        self._names = names
        self.wrong: list[str] = []

    async def play(self, talk: Talk) -> None:
        """Let all clients of the crowd talk at once; to be cancelled."""
        parts = [_named(part, self._names) for part in talk.parts]
        async with asyncio.TaskGroup() as group:
            for _ in range(talk.crowd):
                group.create_task(self._say(parts, talk.reads, talk.ends))

    async def ask(self, path: str, method: str, reads: Reads, more: str = "") -> bytes:
        """Ask once and return the whole answer; nothing if it broke off."""
        said = f"{method} {path} HTTP/1.1\r\nHost: a\r\n{more}Connection: close\r\n\r\n".encode()
        return await self._say([Part(said)], reads, "waits")

    async def _say(self, parts: Iterable[Part], reads: Reads, ends: Ends) -> bytes:
        loop = asyncio.get_running_loop()
        with _opened(reads) as end, suppress(OSError):
            await loop.sock_connect(end, self._address)
            answered = asyncio.create_task(_read(end, reads))
            try:
                await self._send(end, parts)
                if ends == "half":
                    end.shutdown(socket.SHUT_WR)
                elif ends == "resets":
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return b""
                answer = await answered
            finally:
                answered.cancel()
            self._look(answer)
            return answer
        return b""

    async def _send(self, end: socket.socket, parts: Iterable[Part]) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):  # the daemon may have answered and hung up
            for part in parts:
                for block in part.blocks():
                    if part.pause:
                        await asyncio.sleep(part.pause)
                    await loop.sock_sendall(end, block)

    def _look(self, answer: bytes) -> None:
        """Check that an answer is HTTP, and not an unforeseen failure."""
        if answer and not answer.startswith(b"HTTP/1.1 "):
            self.wrong.append(f"an answer that is no HTTP: {answer[:80]!r}")
        if answer.startswith(b"HTTP/1.1 500 "):
            self.wrong.append(f"an answer of 500: {answer[-200:]!r}")


async def _read(end: socket.socket, reads: Reads) -> bytes:
    loop = asyncio.get_running_loop()
    if reads == "nothing":
        await asyncio.Event().wait()
    if reads == "leaves":
        await asyncio.sleep(_LEAVES_AFTER)
        return b""
    kept = bytearray()
    with suppress(OSError):
        while data := await loop.sock_recv(end, _SIP if reads == "slowly" else _LONGEST):
            kept += data[: max(0, _KEPT - len(kept))]
            if reads == "slowly":
                await asyncio.sleep(_SIP_EVERY)
    return bytes(kept)


def _opened(reads: Reads) -> socket.socket:
    end = socket.socket()
    end.setblocking(False)
    end.bind((HOME, 0))
    if reads in ("nothing", "slowly"):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL)
    return end


def _named(part: Part, names: Mapping[str, str]) -> Part:
    data = part.data
    for name, meant in names.items():
        data = data.replace(b"{%b}" % name.encode(), meant.encode())
    return Part(data, part.times, part.pause)
