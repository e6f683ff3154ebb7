"""Faults: the requests that go wrong, how often, and how."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from .journal import Kind, PortName, Seen

HTML = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body></body></html>\n"

Rewrite: TypeAlias = Callable[[bytes], bytes]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One way for an answer to go wrong, for `times` of the requests it matches (None: for ever).

    It strikes only authorized requests; with `at_door`, only requests that are about to be
    challenged. Without a `port`, a blob's fault strikes at the port that sends the body. A fault
    within the body strikes no HEAD. `cut_after`, `stall_after` and `short_at` count bytes of this
    answer's body; `corrupt_at` is a place in the whole blob, so a resume beyond it is sound.
    """

    # which requests
    kind: Kind | None = None
    port: PortName | None = None
    method: str | None = None
    repository: str | None = None
    reference: str | None = None
    match: Callable[[Seen], bool] | None = None
    at_door: bool = False
    times: int | None = 1
    # before the answer
    hang: bool = False  # until `until` is set; for ever without
    drop: bool = False  # break the connection without an answer
    until: asyncio.Event | None = None
    # another answer
    status: int | None = None
    body: bytes | Rewrite | None = None  # without a status: under the true answer's headers
    headers: Mapping[str, str | None] = field(default_factory=dict)  # None removes a header
    redirect_loop: bool = False
    ignore_range: bool = False
    chunked: bool = False
    content_length: int | None = None
    # within the body
    corrupt_at: int | None = None
    stall_after: int | None = None  # until `until` is set; for ever without
    cut_after: int | None = None
    short_at: int | None = None  # the body ends there, as if it were complete
    rate: float | None = None  # bytes per second, apart from the hub's line

    @classmethod
    def abuse(
        cls, kind: Kind | None = None, times: int | None = 1, retry_after: int = 60
    ) -> "Fault":
        """Make Docker Hub's answer to too many requests a minute: plain text, with Retry-After."""
        headers = {"Content-Type": "text/plain", "Retry-After": str(retry_after)}
        body = b"Too Many Requests (HAP429).\n"
        return cls(kind=kind, times=times, status=429, body=body, headers=headers)

    @classmethod
    def page(cls, kind: Kind | None = None, times: int | None = 1, status: int = 200) -> "Fault":
        """Make a web page in place of the answer, as of captive portals and bot checks."""
        headers = {"Content-Type": "text/html; charset=UTF-8"}
        return cls(kind=kind, times=times, status=status, body=HTML, headers=headers)

    @property
    def within_body(self) -> bool:
        """Whether the fault is within the body."""
        places = (self.corrupt_at, self.stall_after, self.cut_after, self.short_at, self.rate)
        return any(place is not None for place in places)

    @property
    def spoils_body(self) -> bool:
        """Whether the kernel cannot send the body as it is."""
        return self.within_body or self.chunked or self.content_length is not None

    def concerns(self, seen: Seen) -> bool:
        """Tell whether this request should go wrong, by all but its port."""
        return (
            self.kind in (None, seen.kind)
            and self.method in (None, seen.method)
            and self.repository in (None, seen.repository)
            and self.reference in (None, seen.reference)
            and (self.match is None or self.match(seen))
            and not (self.within_body and seen.method == "HEAD")
        )

    async def wait(self) -> None:
        """Wait for the event, or for ever."""
        await (self.until or asyncio.Event()).wait()


class Faults:
    """The faults to come; the first added strikes first.

    `source` returns the port that sends a request's content.
    """

    def __init__(self, source: Callable[[Seen], PortName]) -> None:
        self._source = source
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Add a fault."""
        self._waiting.append(fault)
        return fault

    def remove(self, fault: Fault) -> None:
        """Remove a fault; with `times` None it stays until then."""
        self._waiting = [each for each in self._waiting if each is not fault]

    def clear(self) -> None:
        """Remove all faults."""
        self._waiting.clear()

    def strike(self, seen: Seen, *, at_door: bool) -> Fault | None:
        """Return the fault for this request, if any, and count down its times."""
        for place, fault in enumerate(self._waiting):
            here = seen.port == (fault.port or self._source(seen))
            if here and fault.at_door == at_door and fault.concerns(seen):
                self._spend(place, fault)
                return fault
        return None

    def _spend(self, place: int, fault: Fault) -> None:
        if fault.times is None:
            return
        if fault.times <= 1:
            del self._waiting[place]
        else:
            self._waiting[place] = replace(fault, times=fault.times - 1)

    def __repr__(self) -> str:
        return f"<Faults: {len(self._waiting)} waiting>"


def with_fields(**fields: object) -> Rewrite:
    """Return a function that sets fields of a JSON body: `with_fields(expires_in=10**9)`."""
    return lambda body: json.dumps(json.loads(body) | fields).encode()


def without(*names: str) -> Rewrite:
    """Return a function that drops fields of a JSON body: `without("expires_in")`."""
    return lambda body: json.dumps(
        {name: value for name, value in json.loads(body).items() if name not in names}
    ).encode()


def padded(size: int) -> Rewrite:
    """Return a function that makes a JSON body longer than `size` bytes."""
    return with_fields(padding="x" * size)
