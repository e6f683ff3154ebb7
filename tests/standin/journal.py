"""The journal: every request that reached the stand-in, from its arrival to its last byte."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

PortName: TypeAlias = Literal["registry", "token", "cdn"]
Kind: TypeAlias = Literal["ping", "manifest", "blob", "tags", "referrers", "token", "other"]


@dataclass(frozen=True)
class Seen:
    """One request and its answer.

    `status` is None until the answer begins, `finished` false until it has ended, well or not.
    """

    serial: int
    port: PortName
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    kind: Kind
    repository: str | None = None
    reference: str | None = None
    status: int | None = None
    digest: str | None = None  # of the content in the answer
    counted: bool = False  # whether it counted as a pull
    bytes_sent: int = 0  # of the body, written to the socket
    finished: bool = False

    @property
    def range(self) -> str | None:
        """The Range header of the request."""
        return self.headers.get("range")


class Journal:
    """The requests, in order of arrival."""

    def __init__(self) -> None:
        self._entries: dict[int, Seen] = {}
        self._arrivals = 0
        self._changed = asyncio.Event()

    @property
    def entries(self) -> list[Seen]:
        """Every request so far, in its present state."""
        return list(self._entries.values())

    def next_serial(self) -> int:
        """Return the number of the next arrival."""
        self._arrivals += 1
        return self._arrivals

    def note(self, seen: Seen) -> None:
        """Record an arrival."""
        self._entries[seen.serial] = seen
        self._wake()

    def answering(self, serial: int, status: int, digest: str | None, *, counted: bool) -> None:
        """Record that an answer begins."""
        self._amend(serial, lambda e: replace(e, status=status, digest=digest, counted=counted))

    def sent(self, serial: int, count: int) -> None:
        """Record body bytes written to the socket."""
        self._amend(serial, lambda e: replace(e, bytes_sent=e.bytes_sent + count))

    def finish(self, serial: int) -> None:
        """Record that an answer has ended."""
        self._amend(serial, lambda e: replace(e, finished=True))

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._wake()

    def matching(self, **fields: object) -> list[Seen]:
        """Return the requests with these values of fields."""
        return [
            entry
            for entry in self._entries.values()
            if all(getattr(entry, name) == value for name, value in fields.items())
        ]

    async def wait(
        self, wanted: Callable[[Seen], bool], n: int = 1, within: float = 5.0
    ) -> list[Seen]:
        """Wait for `n` matching requests, and return them."""
        return await self._until(
            lambda found: len(found) >= n,
            wanted,
            f"{n} wanted requests in the journal",
            within,
        )

    async def quiet(self, within: float = 5.0) -> None:
        """Wait until no request is being answered."""
        await self._until(
            lambda found: not found,
            lambda seen: not seen.finished,
            "every answer finished",
            within,
        )

    async def _until(
        self,
        enough: Callable[[list[Seen]], bool],
        wanted: Callable[[Seen], bool],
        hope: str,
        within: float,
    ) -> list[Seen]:
        found: list[Seen] = []
        try:
            async with asyncio.timeout(within):
                while not enough(found := [e for e in self._entries.values() if wanted(e)]):
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(self._disappointment(hope, len(found), within)) from None
        return found

    def _disappointment(self, hope: str, found: int, within: float) -> str:
        lines = [
            f"  {e.port} {e.method} {e.path} -> {e.status}, {e.bytes_sent} bytes"
            + ("" if e.finished else ", under way")
            for e in self._entries.values()
        ]
        return "\n".join([f"hoped for {hope}, found {found} after {within} s:", *lines[-30:]])

    def _amend(self, serial: int, change: Callable[[Seen], Seen]) -> None:
        if entry := self._entries.get(serial):  # a request that `clear` dropped stays dropped
            self._entries[serial] = change(entry)
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        under_way = sum(not entry.finished for entry in self._entries.values())
        return f"<Journal: {len(self._entries)} requests, {under_way} under way>"
