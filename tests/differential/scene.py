"""The scene: all facts that decide one example, as data that can be printed and replayed."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeAlias

# The manner of the mirror's client. `plain`: GET by tag; `head`: HEAD by tag first; `leaves`: cuts
# the large layer off, and the mirror ends meanwhile; `shares`: it pulls the layers from another
# repository before; `upstreams`: from another upstream; `lists`: tags and referrers first.
Manner: TypeAlias = Literal["plain", "head", "leaves", "shares", "upstreams", "lists"]
ImageForm: TypeAlias = Literal[
    "image", "index", "nested", "docker", "typeless", "empty config", "twice", "artifact", "oras",
    "schema1", "signed",
]  # fmt: skip
BlobForm: TypeAlias = Literal["here", "away", "relative", "space", "hops"]
ListForm: TypeAlias = Literal[
    "whole", "pages", "token", "other host", "unquoted", "null", "odd entry", "map"
]
ReferrersForm: TypeAlias = Literal["api", "none", "not allowed", "bad", "page", "empty", "itself"]
LimitForm: TypeAlias = Literal["none", "hub", "gateway", "few"]

Kind: TypeAlias = Literal["token", "base", "tag", "digest", "blob", "content", "tags", "referrers"]
# `range` is a GET with Range, `whole` one without.
Method: TypeAlias = Literal["any", "HEAD", "GET", "range", "whole"]
Page: TypeAlias = Literal["json", "html", "plain", "xml", "none"]
Body: TypeAlias = Literal["right", "cut", "short", "wrong", "empty", "page", "stalls"]
Act: TypeAlias = Literal["answer", "hang", "drop"]


class Plain:
    """Data with a repr that leaves out defaults, and makes the same data when it is evaluated."""

    def __repr__(self) -> str:
        told = [
            f"{each.name}={value!r}"
            for each in fields(self)  # type: ignore[arg-type]
            if (value := getattr(self, each.name)) != each.default
        ]
        return f"{type(self).__name__}({', '.join(told)})"


@dataclass(frozen=True, repr=False)
class Deviation(Plain):
    """An answer to one kind of question that is not by the book.

    Upstream gives it `times` times to questions about the same content, or (None) until it is well
    again; `only` restricts it to one of the image's blobs, the first of which is the config.
    `status` turns the answer into an error (or, below 300, into another success). `headers` replace
    those of the answer, and remove them if the value is None: `{digest}`, `{DIGEST}` (its
    hexadecimal digits in upper case), `{start}`, `{last}` and `{size}` stand for the content's own
    values. With `away` the question is redirected to another host, which gives the answer.
    """

    kind: Kind = "blob"
    method: Method = "any"
    times: int | None = None
    only: int | None = None
    status: int | None = None
    page: Page = "json"
    headers: tuple[tuple[str, str | None], ...] = ()
    body: Body = "right"
    act: Act = "answer"
    away: bool = False

    def sound(self) -> Deviation:
        """Return it in a valid form: a 429 in JSON, a spent limit, would hold for all manifests."""
        manifest = self.kind in ("tag", "digest")
        spent = manifest and self.status == 429 and self.page == "json"
        return replace(self, page="plain") if spent else self


@dataclass(frozen=True, repr=False)
class Scene(Plain):
    """One example: an upstream, its deviations, and the clients that pull from it.

    `warm` lets a client pull all of it before upstream deviates; then the tag may have moved to
    another image meanwhile (`moves`). `tag_ttl` is in seconds.
    """

    manner: Manner = "plain"
    deviations: tuple[Deviation, ...] = ()
    warm: bool = False
    moves: bool = False
    tag_ttl: int = 60
    upstream: Literal["docker.io", "registry.test"] = "docker.io"
    login: bool = True
    account: bool = False
    image: ImageForm = "image"
    blobs: BlobForm = "here"
    listing: ListForm = "whole"
    referrers: ReferrersForm = "api"
    limits: LimitForm = "none"

    @property
    def hangs(self) -> bool:
        """Whether upstream is silent at times."""
        return any(each.act == "hang" or each.body == "stalls" for each in self.deviations)

    def sound(self) -> Scene:
        """Return the scene with defaults for all fields that play no part."""
        lists = self.manner == "lists"
        moves = self.moves and self.warm and not lists
        content = any(each.kind == "content" for each in self.deviations)
        gateway = self.limits in ("gateway", "few")  # Docker Hub's own headers tell its pull limit
        return replace(
            self,
            deviations=tuple(each.sound() for each in self.deviations),
            moves=moves,
            tag_ttl=0 if moves else self.tag_ttl,  # otherwise the old digest may be served
            blobs="away" if content and self.blobs == "here" else self.blobs,
            upstream="registry.test" if gateway else self.upstream,
            account=self.account and self.login,
            listing=self.listing if lists else "whole",
            referrers=self.referrers if lists else "api",
        )


def read(text: str) -> Scene:
    """Read a printed scene."""
    names: dict[str, Any] = {"Scene": Scene, "Deviation": Deviation, "__builtins__": {}}
    scene = eval(text, names)
    if not isinstance(scene, Scene):
        raise TypeError("a Scene(…) is wanted")
    return scene
