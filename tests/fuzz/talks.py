"""Drawn talks of hostile clients: requests by the book, and bytes that are none. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

from tests.fuzz.plays import Ends, Part, Reads, Talk

T = TypeVar("T")

METHODS = (
    b"GET", b"GET", b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT",
    b"PRI", b"get", b"G\0T", b"", b"A" * 300, b"\xc3\xa9",
)  # fmt: skip
TARGETS = (
    b"/v2/", b"/healthz", b"/readyz", b"/metrics", b"/v2/{repository}/manifests/latest",
    b"/v2/{repository}/manifests/{manifest}", b"/v2/{repository}/blobs/{warm}",
    b"/v2/library/cold/blobs/{cold}", b"/v2/library/made-up/blobs/{cold}",
    b"/v2/{repository}/tags/list", b"/v2/{repository}/tags/list?n=2&last=a",
    b"/v2/{repository}/tags/list?n=" + b"9" * 400, b"/v2/{repository}/referrers/{manifest}",
    b"/v2/{repository}/manifests/latest?ns=bad.test", b"/v2/bad.test/made/up/manifests/latest",
    b"/bad.test/v2/made/up/tags/list", b"/v2/{repository}/blobs/sha256:..%2f..%2fetc",
    b"*", b"", b"//", b"http://evil.test/v2/", b"/v2/" + b"a/" * 400, b"/" + b"%2e%2e/" * 200,
    b"/v2/?" + b"&" * 3000, b"/v2/{repository}/manifests/latest?" + b"ns=a&" * 500, b"/\xff\xfe",
    b"/v2/%", b"/a b", b"?", b"/v2/library%2fwarm/manifests/latest",
)  # fmt: skip
VERSIONS = (
    b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.1 ",
    b"HTTP/11", b"http/1.1", b"", b"HTTP/1.1" * 99,
)  # fmt: skip
LINES = (
    b"Host: a", b"Host: a", b"Host:", b"Host: a\r\nHost: b", b"Connection: close",
    b"Connection: keep-alive, x", b"Connection: upgrade\r\nUpgrade: websocket",
    b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA", b"Expect: 100-continue",
    b"Expect: x", b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: 99999999999",
    b"Content-Length: -1", b"Content-Length: 1_0", b"Content-Length: 5\r\nContent-Length: 6",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked\r\nContent-Length: 3",
    b"Transfer-Encoding :chunked", b" folded: x", b"X: a\r\n folded", b"X: \0", b"X: \xff", b": x",
    b"X", b"X: " + b"y" * 9000, b"Range: bytes=0-0", b"Range: bytes=" + b"0-0," * 900,
    b"Range: bytes=-5", b"Range: bytes=99999999999-", b"If-None-Match: *",
    b"If-None-Match: " + b'"",' * 900, b"If-Range: x", b"Accept: " + b"*/*;q=0.1," * 300,
    b"Authorization: Basic " + b"A" * 4000, b"Authorization: Basic !", b"Authorization: Bearer a",
    b"Authorization: Basic OjpAQEA=", b"Cookie: " + b"a=b;" * 900, b"Forwarded: for=a",
    b"Content-Type: multipart/form-data; boundary=" + b"b" * 900, b"Content-Encoding: gzip",
    b"Origin: http://evil.test", b"Sec-Fetch-Site: cross-site", b"User-Agent: \xc3\xa9",
    b"X-Forwarded-For: " + b"1.1.1.1," * 900, b"Accept-Encoding: gzip;q=" + b"9" * 999,
)  # fmt: skip
BODIES = (
    b"", b"", b"hello", b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    b"zz\r\n", b"fffffffffffffffff\r\n", b"-1\r\n", b"5;a=b\r\nhello\r\n0\r\n\r\n",
    b"5\nhello\n0\n\n",
    b"\0" * 100, b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
    b"5;" + b"x" * 9000 + b"\r\nhello\r\n",
)  # fmt: skip
_GARBAGE = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2,  # TLS ClientHello
    b"\x16\x03\x01\xff\xff",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
    b"\x05\x01\x00",
    b"\r\n" * 4000,
    b"\0" * 70_000,
    b"\x80" * 70_000,
    b"A" * 70_000,
    b"GET / HTTP/1.1\n\n",
    b"GET /v2/\r\n",
)
_READS: tuple[Reads, ...] = ("all", "all", "slowly", "nothing", "leaves")
_ENDS: tuple[Ends, ...] = ("waits", "half", "resets")
_PATHS = (
    "manifests/latest", "manifests/{manifest}", "blobs/{warm}", "tags/list",
    "referrers/{manifest}",
)  # fmt: skip


def mutated(chance: random.Random) -> Talk:
    """Send a few requests, each with a fault."""
    parts = tuple(Part(_request(chance)) for _ in range(chance.choice((1, 1, 2, 4))))
    return Talk(parts, chance.choice((1, 2, 10)), chance.choice(_READS), chance.choice(_ENDS))


def _request(chance: random.Random) -> bytes:
    method, target, version = b"GET", chance.choice(TARGETS), b"HTTP/1.1"
    lines, body = [b"Host: a"], b""
    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        match chance.randrange(6):
            case 0:
                method = chance.choice(METHODS)
            case 1:
                version = chance.choice(VERSIONS)
            case 2 | 3:
                lines.append(chance.choice(LINES))
            case 4:
                lines[0] = chance.choice(LINES)
            case _:
                body = chance.choice(BODIES)
    said = b" ".join((method, target, version)) + b"\r\n" + b"\r\n".join(lines) + b"\r\n\r\n" + body
    return _scratched(chance, said) if chance.random() < 0.2 else said


def _scratched(chance: random.Random, said: bytes) -> bytes:
    """Change some bytes, leave some out, repeat some."""
    scratched = bytearray(said)
    for _ in range(chance.choice((1, 3, 20))):
        at = chance.randrange(len(scratched))
        match chance.randrange(3):
            case 0:
                scratched[at] = chance.randrange(256)
            case 1 if len(scratched) > 1:
                del scratched[at : at + chance.choice((1, 1, 8))]
                scratched = scratched or bytearray(b"\n")
            case _:
                scratched[at:at] = scratched[at : at + chance.choice((1, 8, 64))]
    return bytes(scratched)


def chunks(chance: random.Random) -> Talk:
    """Send a body in tiny chunks."""
    size = chance.choice((1, 1, 2, 16, 255))
    piece = b"%x\r\n%b\r\n" % (size, b"X" * size)
    if chance.random() < 0.2:
        piece = b"%x;%b\r\n%b\r\n" % (size, b"a" * 30, b"X" * size)
    head = b"%b %b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    said = head % (chance.choice((b"GET", b"GET", b"POST")), chance.choice(TARGETS[:6]))
    many = chance.choice((20_000, 100_000, 400_000))
    return Talk((Part(said), Part(piece, many)), chance.choice((10, 20, 40)), "all")


def body(chance: random.Random) -> Talk:
    """Send a long body with a Content-Length."""
    size = chance.choice((1_000_000, 20_000_000))
    said = b"POST /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
    return Talk((Part(said), Part(b"\0" * 1000, size // 1000)), chance.choice((1, 10)))


def pipeline(chance: random.Random) -> Talk:
    """Ask many things without waiting for an answer."""
    said = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % chance.choice(TARGETS[:13])
    many = chance.choice((100, 1000))
    return Talk((Part(said, many),), chance.choice((1, 5)), chance.choice(_READS))


def lines(chance: random.Random) -> Talk:
    """Send headers without end, at once or dribbled."""
    line = chance.choice(
        (b"X: y\r\n", b"a: " + b"b" * 4000 + b"\r\n", b"\t x\r\n", b"Cookie: a=b\r\n")
    )
    pause, many = chance.choice(((0.0, 20_000), (0.02, 100)))
    said = Part(b"GET /v2/ HTTP/1.1\r\n")
    return Talk((said, Part(line, many, pause)), chance.choice((1, 10, 40)))


def dribble(chance: random.Random) -> Talk:
    """Send a request byte by byte, or stop in the middle of it."""
    said = _request(chance)
    stop = chance.randrange(1, min(len(said), 60) + 1)
    parts = tuple(Part(said[at : at + 1], 1, 0.03) for at in range(stop))
    return Talk(parts, chance.choice((1, 20)), "all", chance.choice(_ENDS))


def garbage(chance: random.Random) -> Talk:
    """Send bytes that are not HTTP at all."""
    parts = (Part(chance.choice(_GARBAGE), chance.choice((1, 1, 20))),)
    return Talk(parts, chance.choice((1, 20)), "all", chance.choice(_ENDS))


def slow(chance: random.Random) -> Talk:
    """Read stored content slowly, or not at all."""
    said = f"GET /v2/{{repository}}/{chance.choice(_PATHS)} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    reads: Reads = chance.choice(("slowly", "nothing"))
    return Talk((Part(said, chance.choice((1, 20))),), chance.choice((20, 60)), reads)


def crowd(chance: random.Random) -> Talk:
    """Connect and send nothing, or leave at once."""
    ends = chance.choice(_ENDS)
    return Talk(
        (Part(b""),), chance.choice((50, 200)), "leaves" if ends == "resets" else "all", ends
    )


def orphans(chance: random.Random) -> Talk:
    """Ask for an honest client's content, in repositories that do not have it."""
    names = [f"library/made-up-{chance.randrange(10**6)}" for _ in range(chance.choice((4, 20)))]
    parts = tuple(
        Part(f"GET /v2/{name}/blobs/{{cold}} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), 3, 0.2)
        for name in names
    )
    return Talk(parts, chance.choice((4, 8)))


TALKS: Sequence[Callable[[random.Random], Talk]] = (
    chunks, body, pipeline, lines, dribble, garbage, slow, crowd, orphans
)  # fmt: skip
