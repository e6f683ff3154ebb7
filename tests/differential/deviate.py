"""A deviation's effect: turns the answer by the book into the answer that is sent. Pure."""

from __future__ import annotations

from dataclasses import replace

from tests.differential import book
from tests.differential.port import Answer, Asked
from tests.differential.scene import Deviation, Method


def asked_by(wanted: Method, method: str) -> bool:
    """Tell whether `wanted` covers a question asked by `method` (HEAD, GET, range)."""
    match wanted:
        case "any":
            return True
        case "GET":
            return method in ("GET", "range")
        case "whole":
            return method == "GET"
        case _:
            return method == wanted


def heard(deviation: Deviation, asked: Asked) -> Asked:
    """Return the question as upstream understands it: an odd success ignores the range."""
    if deviation.status is None or deviation.status >= 300:
        return asked
    headers = asked.headers.copy()
    headers.popall("Range", None)
    return replace(asked, headers=headers)


def deviated(deviation: Deviation, method: str, right: Answer, challenge: str) -> Answer:
    """Return the deviating answer; `challenge` is the challenge of a 401."""
    values = _values(right)
    answer = _with_status(deviation, right)
    answer.act = deviation.act
    if answer.status == 401 and challenge:
        answer.headers["WWW-Authenticate"] = challenge
    _spoil(deviation, answer)
    _tell(deviation, method, answer, values)
    return answer


def _with_status(deviation: Deviation, right: Answer) -> Answer:
    status = deviation.status
    if status is None:
        return right
    if status >= 300:
        return book.error(status, deviation.page)
    if right.status < 300:
        whole = right
        whole.status = status
        whole.headers.pop("Content-Range", None)
        if status == 206:
            size = len(whole.body)
            whole.headers["Content-Range"] = f"bytes 0-{size - 1}/{size}"
        return whole
    return right


def _spoil(deviation: Deviation, answer: Answer) -> None:
    body, half = answer.body, len(answer.body) // 2
    match deviation.body:
        case "cut" | "stalls":
            answer.stop, answer.stalls = half, deviation.body == "stalls"
            return
        case "short":
            answer.body = body[:half]
        case "wrong":
            answer.body = body[:half] + bytes(byte ^ 0x55 for byte in body[half:])
        case "empty":
            answer.body = b""
        case "page":
            answer.body, answer.headers["Content-Type"] = book.HTML, "text/html"
    answer.headers["Content-Length"] = str(len(answer.body))


def _tell(deviation: Deviation, method: str, answer: Answer, values: dict[str, str]) -> None:
    for name, value in deviation.headers:
        if value is not None:
            answer.headers[name] = value.format_map(values)
        elif name == "Content-Length" and method != "HEAD":
            answer.headers.pop(name, None)
            answer.framing = "chunked"
        else:
            answer.headers.pop(name, None)


def _values(right: Answer) -> dict[str, str]:
    """Return the values of the names in a header's value."""
    digest = right.headers.get("Docker-Content-Digest", "sha256:" + "0" * 64)
    algorithm, _, digits = digest.partition(":")
    length = int(right.headers.get("Content-Length", "0"))
    span = right.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    start, _, last = span[0].partition("-")
    return {
        "digest": digest,
        "DIGEST": f"{algorithm}:{digits.upper()}",
        "size": span[2] or str(length),
        "start": start or "0",
        "last": last or str(max(length - 1, 0)),
    }
