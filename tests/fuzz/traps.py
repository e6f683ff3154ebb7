"""Drawn traps: hostile upstreams' answers, and the requests for them. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from tests.fuzz.plays import KINDS, Ask, Asked, Body, Framing, Kind, Lie, Part, Shape, Then, Trap

_LINES = (
    b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK",
    b"HTTP/1.1 206 P",
    b"HTTP/1.1 204 N", b"HTTP/1.1 304 N", b"HTTP/1.1 302 F", b"HTTP/1.1 307 T", b"HTTP/1.1 400 B",
    b"HTTP/1.1 401 U", b"HTTP/1.1 403 F", b"HTTP/1.1 404 N", b"HTTP/1.1 416 R", b"HTTP/1.1 429 T",
    b"HTTP/1.1 500 I", b"HTTP/1.1 503 S", b"HTTP/1.1 999 X", b"HTTP/1.1 099 X", b"HTTP/1.1 20 X",
    b"HTTP/1.1 200", b"HTTP/1.1", b"HTTP/2 200 OK", b"HTTP/9.9 200 OK", b"ICY 200 OK", b"",
    b"HTTP/1.1 200 " + b"O" * 9000, b"HTTP/1.1 -200 OK", b"HTTP/1.1 101 Switching", b"\0" * 99,
    b"HTTP/1.1 407 P",
)  # fmt: skip
_SPOKEN = (b"HTTP/1.1 200 OK", b"HTTP/1.1 401 U", b"HTTP/1.1 403 F")
_NAMES = (
    b"Content-Type", b"WWW-Authenticate", b"Link", b"Location", b"Set-Cookie", b"Retry-After",
    b"RateLimit-Limit", b"RateLimit-Remaining", b"Docker-Content-Digest", b"Content-Range", b"ETag",
    b"Content-Encoding", b"Content-Disposition", b"OCI-Filters-Applied", b"OCI-Subject", b"Date",
    b"Transfer-Encoding", b"Content-Length", b"Accept-Ranges", b"Connection", b"Warning", b"X",
    b"Proxy-Authenticate", b"Cache-Control", b"Trailer",
)  # fmt: skip
_BEGINS = {
    b"Content-Type": (b"text/html", b"application/vnd.oci.image.index.v1+json", b""),
    b"WWW-Authenticate": (b"Bearer ", b'Bearer realm="', b"Basic ", b'Digest realm="x",', b""),
    b"Link": (b"<", b"</v2/>; rel=", b""),
    b"Location": (b"http://u:p@127.0.0.1:1/", b"/", b"http://[", b"//", b"?", b""),
    b"Set-Cookie": (b"a=b; ", b"a=", b""),
}
_FILLS = (
    b";", b",", b'"', b"=", b" ", b"\t", b"a", b"<", b"(", b"\\", b"%", b"'", b"*", b";a=",
    b'";', b'a="',
    b"<>;", b",Bearer ", b"0", b"; a=b", b'\\"', b"\xc3\xa9", b"/", b"../", b"[", b"\0", b"; ",
    b"@",
    b"=?utf-8?q?a?=", b"a=b,", b"*=utf-8''",
)  # fmt: skip
_VALUES = (
    b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 5, 5",
    b"Transfer-Encoding: gzip",
    b"Transfer-Encoding: chunked, chunked", b"Content-Encoding: gzip", b"Content-Encoding: br",
    b"Content-Type: application/vnd.oci.image.index.v1+json", b"Content-Type: text/html",
    b"Content-Range: bytes 0-9/99999999999", b"Content-Range: bytes */0", b"Connection: close",
    b"Docker-Content-Digest: sha256:" + b"0" * 64, b"Docker-Content-Digest: sha256:{}",
    b"Retry-After: 99999999999", b"Retry-After: -1", b"Retry-After: 1e9", b"X: a\r\n folded", b"X",
    b'Link: </v2/{name}/tags/list?last=a>; rel="next"', b"RateLimit-Limit: 100;w=21600",
    b"RateLimit-Remaining: 0;w=21600", b"Location: /v2/", b"Location: {here}", b"Location: http://",
    b"Location: http://127.0.0.9:1/", b"Location: http://169.254.169.254/", b"Location: \0",
    b"Location: file:///etc/passwd", b"Set-Cookie: a=b", b"Upgrade: h2c", b"X: \0", b": a",
    b'WWW-Authenticate: Bearer realm="http://127.0.0.9:1/t"', b"WWW-Authenticate: Basic realm=a",
    b'WWW-Authenticate: Bearer realm="{here}"', b"WWW-Authenticate: Negotiate",
)  # fmt: skip
_SHAPES: tuple[Body, ...] = (
    Body("brackets", 4_000_000), Body("brackets", 900), Body("objects", 400_000), Body("objects",
    90),
    Body("digits", 4_000_000), Body("digits", 5000), Body("endless", 200_000), Body("endless"),
    Body("text", 4_000_000), Body("page", 100_000), Body("packed", 100_000_000), Body("nothing"),
    Body("tags", 60_000), Body("tags", 3), Body("referrers", 20_000), Body("index", 49_000),
    Body("annotations", 3_900_000), Body("noise", 5_000_000), Body("zeros", 100), Body("image",
    8000),
)  # fmt: skip
_ASKED: tuple[Asked, ...] = (
    "tag", "tag", "head", "manifest", "blob", "blob", "made up", "far", "tags", "page", "referrers"
)  # fmt: skip
_PIECES = (1, 1, 7, 100, 64 * 1024)
_MIB = 1024 * 1024
_OF_MANY: dict[Kind, Asked] = {  # each client of a crowd asks for something else
    "ping": "manifests", "token": "manifests", "tag": "manifests", "manifest": "manifests",
    "blob": "made up", "content": "made up", "tags": "page", "referrers": "referrers",
}  # fmt: skip
_OF_KIND: dict[Kind, Asked] = {
    "ping": "tag", "token": "tag", "tag": "tag", "manifest": "manifest", "blob": "blob",
    "content": "blob", "tags": "tags", "referrers": "referrers",
}  # fmt: skip


def mutated(chance: random.Random) -> Trap:
    """Have an upstream lie somewhere, and draw any requests for it."""
    lies = tuple(_lie(chance) for _ in range(chance.choice((1, 1, 2, 3))))
    asked = [_OF_KIND[lie.kind] for lie in lies] + [chance.choice(_ASKED)]
    asks = tuple(Ask(each, chance.choice((1, 1, 5))) for each in asked)
    document = chance.choice((Body("image", 2), Body("image", 2), chance.choice(_SHAPES)))
    return _trap(chance, asks, lies, document)


def _lie(chance: random.Random) -> Lie:
    fields = [Part(chance.choice(_VALUES) + b"\r\n") for _ in range(chance.choice((0, 1, 2)))]
    framings: tuple[Framing, ...] = ("length", "length", "chunked", "none", "both", "two lengths")
    then: tuple[Then, ...] = ("keeps", "keeps", "closes", "hangs", "resets")
    body = chance.choice(_SHAPES) if chance.random() < 0.4 else None
    before = (
        Part(chance.choice((b"HTTP/1.1 100 Continue\r\n\r\n", b"\r\n", b"HTTP/1.1 102 P\r\n\r\n"))),
    )
    return Lie(
        kind=chance.choice(KINDS),
        method=chance.choice(("any", "any", "GET", "HEAD")),
        line=chance.choice(_LINES),
        before=before if chance.random() < 0.15 else (),
        fields=tuple(fields),
        without=chance.choice(((), (), ("Content-Type",), ("Docker-Content-Digest",))),
        body=body,
        framing=chance.choice(framings),
        claim=chance.choice((None, None, None, 0, 10, 3 * _MIB, 10**12, 10**30)),
        piece=chance.choice(_PIECES),
        pause=chance.choice((0.0, 0.0, 0.0, 0.02)),
        stop=chance.choice((None, None, None, 0, 100)),
        then=chance.choice(then),
    )


def headers(chance: random.Random) -> Trap:
    """Fill a header with one text, as long as allowed: each question gets a different text."""
    kind, name = chance.choice(KINDS), chance.choice(_NAMES)
    return _filled(chance, kind, name, (chance.choice(_LINES[:17]),))


def login(chance: random.Random) -> Trap:
    """Fill a header that the mirror reads during a login."""
    kind: Kind = chance.choice(("ping", "token", "tag", "blob"))
    name = chance.choice((b"WWW-Authenticate", b"WWW-Authenticate", b"Set-Cookie", b"Location"))
    lines = (b"HTTP/1.1 401 U", b"HTTP/1.1 302 F") if name == b"Location" else _SPOKEN
    return _filled(chance, kind, name, lines, login=True)


def types(chance: random.Random) -> Trap:
    """Fill the media type of an answer, mostly the token server's."""
    kind: Kind = chance.choice(("token", "token", "token", chance.choice(KINDS)))
    # A refused login is in backoff, and with it all questions that need it.
    lines = (b"HTTP/1.1 403 F",) if kind == "token" else _SPOKEN
    return _filled(chance, kind, b"Content-Type", lines, login=True)


def _filled(
    chance: random.Random,
    kind: Kind,
    name: bytes,
    lines: tuple[bytes, ...],
    *,
    login: bool = False,
) -> Trap:
    begin, many = chance.choice(_BEGINS.get(name, (b"",))), chance.random() < 0.2
    lies = tuple(
        Lie(
            kind,
            line=line,
            fields=_fields(name + b": " + begin, fill, many),
            without=(name.decode(),),
        )
        for fill in _FILLS
        for line in lines
    )
    asks = (Ask(_OF_MANY[kind], len(lies)), Ask(chance.choice(_ASKED)))
    return Trap(asks, lies, login=login or kind == "token", away=kind == "content")


def _fields(begin: bytes, fill: bytes, many: bool) -> tuple[Part, ...]:
    if many:
        return (Part(begin + fill * 9 + b"\r\n", 2000),)
    return (Part(begin), Part(fill, 31_000 // len(fill)), Part(b"\r\n"))


def claims(chance: random.Random) -> Trap:
    """Promise a large body, and send little of it."""
    claim = chance.choice((20, 40, 60, 70, 80, 85, 90, 1000)) * _MIB - chance.choice((0, 1, _MIB))
    lie = Lie(
        chance.choice(("blob", "content")),
        method="GET",
        body=Body("zeros", chance.choice((10, 100_000))),
        claim=claim,
        piece=chance.choice((1, 1000)),
        pause=chance.choice((0.0, 0.05)),
        stop=chance.choice((0, 1, 60)),
        then="hangs",
    )
    crowd = chance.choice((1, 4, 40))
    asks = (Ask("made up", crowd, chance.choice(("all", "nothing", "leaves"))),)
    return Trap(asks, (lie,), away=lie.kind == "content")


def silence(chance: random.Random) -> Trap:
    """Send nothing, or stop after the head, to many clients at once."""
    kind = chance.choice(KINDS)
    lie = Lie(kind, line=chance.choice((b"", b"HTTP/1.1 200 OK")), stop=0, then="hangs")
    asked: Asked = "made up" if kind in ("blob", "content") else _OF_KIND[kind]
    return _trap(
        chance, (Ask(asked, chance.choice((10, 40)), chance.choice(("all", "leaves"))),), (lie,)
    )


def far(chance: random.Random) -> Trap:
    """Ask for the end of a blob that upstream sends slowly, and read it slowly."""
    lie = Lie("blob", piece=chance.choice((1, 1000)), pause=0.05, then="hangs")
    asks = (Ask("far", chance.choice((40, 80)), chance.choice(("slowly", "nothing"))),)
    return Trap(asks, (lie,), blob=Body("noise", 20_000_000))


def tiny(chance: random.Random) -> Trap:
    """Send a body in tiny chunks, to several clients at once."""
    kind: Kind = chance.choice(
        ("blob", "blob", "content", "tag", "manifest", "tags", "referrers", "token")
    )
    many = chance.choice((100_000, 300_000))
    size = chance.choice((1, 1, 2, 16))
    lie = Lie(kind, method="GET", framing="chunked", piece=size)
    if kind not in ("blob", "content"):
        lie = Lie(kind, "GET", framing="chunked", piece=size, body=Body("tags", many // 70))
    asks = (Ask(_OF_KIND[kind], chance.choice((1, 5))),)
    blob = Body("noise", many)
    return Trap(asks, (lie,), blob=blob, login=kind == "token", away=kind == "content")


def children(chance: random.Random) -> Trap:
    """Have indexes with as many children as an index can hold."""
    shape = chance.choice((Body("index", 49_000), Body("index", 49_000), Body("image", 20_000)))
    return Trap((Ask("manifests", chance.choice((4, 12))),), document=shape)


def graphs(chance: random.Random) -> Trap:
    """Have indexes that name indexes, deep or wide."""
    shape = chance.choice((Body("lattice", 14), Body("lattice", 14), Body("chain", 300)))
    return Trap((Ask("tag"), Ask("manifests", 1)), document=shape)


def lists(chance: random.Random) -> Trap:
    """Have long lists, and requests for many of their pages at once."""
    shape: Shape = chance.choice(("tags", "referrers", "index"))
    many = {"tags": 58_000, "referrers": 18_000, "index": 45_000}[shape]
    kind: Kind = "tags" if shape == "tags" else "referrers"
    lie = Lie(kind, body=Body(shape, many))
    asks = (Ask("page" if kind == "tags" else "referrers", chance.choice((8, 40))),)
    return Trap(asks, (lie,))


def readers(chance: random.Random) -> Trap:
    """Have large documents, and many clients that do not read them."""
    document = Body("annotations", 3_900_000)
    lie = Lie("tags", body=Body("tags", 60_000))
    what = chance.choice(("tag", "tags"))
    reads = chance.choice(("nothing", "nothing", "slowly"))
    asks = (Ask(what), Ask(what, chance.choice((60, 120)), reads))  # type: ignore[arg-type]
    return Trap(asks, (lie,), document=document)


def documents(chance: random.Random) -> Trap:
    """Have a document of an odd shape, in any place where the mirror reads one."""
    body = chance.choice(_SHAPES)
    kind: Kind = chance.choice(("tags", "referrers", "token", "tag"))
    if kind == "tag":
        return Trap((Ask("tag", 4), Ask("manifests", 4)), document=body)
    asks = (Ask(_OF_KIND[kind], chance.choice((1, 8))),)
    return Trap(asks, (Lie(kind, body=body),), login=kind == "token")


def interims(chance: random.Random) -> Trap:
    """Send interim answers again and again, or redirect to and fro."""
    if chance.random() < 0.5:
        before = (Part(b"HTTP/1.1 103 E\r\nLink: <a>\r\n\r\n", chance.choice((1, 1000, 50_000))),)
        lie = Lie(chance.choice(KINDS), before=before)
    else:
        to = chance.choice((b"{here}", b"/v2/", b"{here}?" + b"a" * 9000))
        lie = Lie(
            chance.choice(KINDS),
            line=b"HTTP/1.1 302 F",
            fields=(Part(b"Location: " + to + b"\r\n"),),
        )
    return _trap(chance, (Ask(_OF_KIND[lie.kind], chance.choice((1, 8))),), (lie,))


def made_up(chance: random.Random) -> Trap:
    """Draw requests for very many blobs that upstream does not have."""
    return Trap((Ask("made up", chance.choice((100, 400))),))


def _trap(
    chance: random.Random,
    asks: tuple[Ask, ...],
    lies: tuple[Lie, ...],
    document: Body = Body("image", 2),  # noqa: B008 - it is frozen
) -> Trap:
    kinds = {lie.kind for lie in lies}
    return Trap(
        asks,
        lies,
        document=document,
        login="token" in kinds or chance.random() < 0.3,
        away="content" in kinds or chance.random() < 0.3,
    )


TRAPS: Sequence[Callable[[random.Random], Trap]] = (
    login, claims, tiny, readers, silence, children, headers, far, lists, graphs, types, documents,
    interims, made_up,
)  # fmt: skip
