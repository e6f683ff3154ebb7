"""Answers: a port's response to one request, before a byte of it is sent."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .faults import Fault

RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)
CODES = {
    401: "UNAUTHORIZED",
    403: "DENIED",
    404: "NOT_FOUND",
    405: "UNSUPPORTED",
    416: "RANGE_INVALID",
    429: "TOOMANYREQUESTS",
    503: "UNAVAILABLE",
}


@dataclass(frozen=True)
class Answer:
    """A status, headers, and a body, which may be a range of the content."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Path = b""
    size: int = 0  # of the whole content
    start: int = 0
    stop: int = 0
    digest: str | None = None
    counted: bool = False

    @property
    def length(self) -> int:
        """The number of bytes to send."""
        return self.stop - self.start

    @property
    def has_parts(self) -> bool:
        """Whether the content may be requested in ranges."""
        return self.status == 200 and "Accept-Ranges" in self.headers

    def with_headers(self, headers: Mapping[str, str | None]) -> "Answer":
        """Set these headers, their names in any case; None removes a header."""
        changed = {name.lower() for name in headers}
        kept = {name: value for name, value in self.headers.items() if name.lower() not in changed}
        new = {name: value for name, value in headers.items() if value is not None}
        return replace(self, headers=kept | new)

    def with_body(self, body: bytes) -> "Answer":
        """Answer with another body under the same headers."""
        return replace(self, body=body, size=len(body), start=0, stop=len(body))

    def part(self, asked: str | None) -> "Answer":
        """Answer a Range request: 206 or 416, or the whole if the header makes no sense."""
        asked_for = RANGE.fullmatch(asked or "")
        if not asked_for or asked_for.groups() == ("", "") or not self.has_parts:
            return self
        first, last = asked_for.groups()
        start = int(first) if first else max(self.size - int(last), 0)
        stop = min(int(last) + 1, self.size) if first and last else self.size
        if start >= stop:
            unsatisfiable = {"Content-Range": f"bytes */{self.size}"}
            return error(416, "the range is not in the content").with_headers(unsatisfiable)
        content_range = {"Content-Range": f"bytes {start}-{stop - 1}/{self.size}"}
        return replace(self, status=206, start=start, stop=stop).with_headers(content_range)


def whole(
    body: bytes | Path,
    headers: Mapping[str, str],
    *,
    size: int | None = None,
    digest: str | None = None,
    counted: bool = False,
) -> Answer:
    """Answer 200 with all of this content."""
    length = len(body) if isinstance(body, bytes) else size or 0
    return Answer(200, headers, body, length, 0, length, digest, counted)


def as_json(document: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Answer:
    """Answer 200 with a JSON document."""
    body = json.dumps(document).encode()
    return whole(body, {"Content-Type": "application/json", **(headers or {})})


def error(status: int, message: str, code: str | None = None, detail: object = None) -> Answer:
    """Answer with an OCI error document."""
    entry = {"code": code or CODES.get(status, "UNKNOWN"), "message": message, "detail": detail}
    return replace(as_json({"errors": [entry]}), status=status)


def text(status: int, body: bytes, content_type: str) -> Answer:
    """Answer with a body that is not for a registry client."""
    return replace(whole(body, {"Content-Type": content_type}), status=status)


def instead(fault: Fault, url: str) -> Answer | None:
    """Return the fault's answer in place of the true one, if the fault has one."""
    if fault.redirect_loop:
        return Answer(307, {"Location": url})
    if fault.status is None:
        return None
    answer = error(fault.status, "a fault of the stand-in")
    return answer.with_body(fault.body) if isinstance(fault.body, bytes) else answer


def with_body_of(fault: Fault, answer: Answer) -> Answer:
    """Return the true answer with the fault's body, if the fault has one."""
    if isinstance(fault.body, bytes):
        return answer.with_body(fault.body)
    if fault.body is not None and isinstance(answer.body, bytes):
        return answer.with_body(fault.body(answer.body))
    return answer
