"""The plays: the acts of hostile peers, as plain data that is drawn, printed and replayed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, TypeAlias

_BLOCK = 64 * 1024  # bytes written at a time if there is no pause

Reads: TypeAlias = Literal["all", "slowly", "nothing", "leaves"]
Ends: TypeAlias = Literal["waits", "half", "resets"]
Kind: TypeAlias = Literal[
    "ping", "token", "tag", "manifest", "blob", "content", "tags", "referrers"
]
KINDS: tuple[Kind, ...] = (
    "ping", "token", "tag", "manifest", "blob", "content", "tags", "referrers"
)  # fmt: skip
Framing: TypeAlias = Literal["length", "chunked", "none", "both", "two lengths"]
Then: TypeAlias = Literal["keeps", "closes", "hangs", "resets"]
Shape: TypeAlias = Literal[
    "noise", "zeros", "image", "index", "chain", "lattice", "annotations", "tags", "referrers",
    "brackets", "objects", "digits", "endless", "text", "page", "packed", "nothing",
]  # fmt: skip
Asked: TypeAlias = Literal[
    "tag", "head", "manifest", "manifests", "blob", "made up", "far", "tags", "page", "referrers"
]


@dataclass(frozen=True)
class Part:
    """Bytes, sent `times` times, each time after a pause in seconds."""

    data: bytes
    times: int = 1
    pause: float = 0.0

    def blocks(self) -> Iterator[bytes]:
        """Yield the blocks, each of which is written at once."""
        at_once = 1 if self.pause else max(1, _BLOCK // max(len(self.data), 1))
        whole, rest = divmod(self.times, at_once)
        block = self.data * at_once
        yield from (block for _ in range(whole))
        if rest:
            yield self.data * rest


@dataclass(frozen=True)
class Talk:
    """The bytes of a client on each of `crowd` connections; `{…}` is replaced, see `Peers.let`."""

    parts: tuple[Part, ...]
    crowd: int = 1
    reads: Reads = "all"
    ends: Ends = "waits"


@dataclass(frozen=True)
class Body:
    """A body by its shape; `count` is in bytes, or in parts of the shape."""

    shape: Shape
    count: int = 1


@dataclass(frozen=True)
class Lie:
    """An upstream's answer to one kind of question that is not by the book.

    `before` is sent before the status line; `fields` are more header lines, `without` are left out.
    `claim` is the value of Content-Length; the body is sent in pieces of `piece` bytes, and ends
    after `stop`. Of several lies, each question gets the next one.
    """

    kind: Kind
    method: Literal["any", "HEAD", "GET"] = "any"
    line: bytes = b"HTTP/1.1 200 OK"
    before: tuple[Part, ...] = ()
    fields: tuple[Part, ...] = ()
    without: tuple[str, ...] = ()
    body: Body | None = None
    framing: Framing = "length"
    claim: int | None = None
    piece: int = _BLOCK
    pause: float = 0.0
    stop: int | None = None
    then: Then = "keeps"


@dataclass(frozen=True)
class Ask:
    """A request for the hostile upstream's repository, by `crowd` clients at once."""

    what: Asked
    crowd: int = 1
    reads: Reads = "all"


@dataclass(frozen=True)
class Trap:
    """A repository of a hostile upstream, and the requests for it, one `Ask` after another.

    With `login` the registry needs a token, with `away` blobs come from a content network.
    """

    asks: tuple[Ask, ...]
    lies: tuple[Lie, ...] = ()
    document: Body = Body("image", 1)
    blob: Body = Body("noise", 20_000)
    login: bool = False
    away: bool = False


Play: TypeAlias = Talk | Trap


def shown(play: object) -> str:
    """Print a play so that `read` reads it, without the fields at their defaults."""
    if isinstance(play, tuple):
        return "({}{})".format(", ".join(map(shown, play)), "," if len(play) == 1 else "")
    if not is_dataclass(play):
        return repr(play)
    told = [
        f"{each.name}={shown(getattr(play, each.name))}"
        for each in fields(play)
        if getattr(play, each.name) != each.default
    ]
    return f"{type(play).__name__}({', '.join(told)})"


def read(text: str) -> tuple[Play, ...]:
    """Read printed plays: one, or several in parentheses."""
    kinds = (Part, Talk, Body, Lie, Ask, Trap)
    names: dict[str, Any] = {each.__name__: each for each in kinds} | {"__builtins__": {}}
    plays = eval(text, names)
    plays = plays if isinstance(plays, tuple) else (plays,)
    if not plays or not all(isinstance(each, Talk | Trap) for each in plays):
        raise TypeError("a Talk(…) or a Trap(…) is wanted, or several in parentheses")
    return plays
