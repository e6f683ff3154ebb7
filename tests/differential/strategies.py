"""The strategy draws scenes, with equal chances for all ways to deviate.

Scenes that hypothesis draws by itself are alike too often: half of a hundred would be about tokens.
So hypothesis draws a source of random choices only, and `search.py` shrinks the counterexamples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import get_args

from hypothesis import strategies as st

from tests.differential.scene import (
    BlobForm,
    Body,
    Deviation,
    ImageForm,
    Kind,
    LimitForm,
    ListForm,
    Manner,
    Method,
    Page,
    ReferrersForm,
    Scene,
)

Headers = tuple[tuple[str, str | None], ...]
PAST = "Wed, 21 Oct 2015 07:28:00 GMT"
_HOURS: Headers = (("Retry-After", "3600"),)
_WAITS: tuple[Headers, ...] = (
    (),
    (("Retry-After", "1"),),
    (("Retry-After", "0"),),
    (("Retry-After", PAST),),
    (("Retry-After", "soon"),),
)
_PULLING: tuple[Kind, ...] = ("token", "base", "tag", "tag", "digest", "blob", "blob", "content")
_LISTING: tuple[Kind, ...] = ("tags", "referrers", "tags", "referrers", "tag", "token", "base")
_MANIFEST: tuple[Method, ...] = ("HEAD", "any", "whole")
_BLOB: tuple[Method, ...] = ("HEAD", "range", "any", "whole")
_METHODS: dict[Kind, tuple[Method, ...]] = {
    "tag": _MANIFEST,
    "digest": _MANIFEST,
    "blob": _BLOB,
    "content": _BLOB,
}
_ERRORS = (400, 401, 401, 403, 403, 404, 404, 405, 406, 408, 416, 429, 429, 500, 501, 502, 503, 504)
_CHALLENGES = (None, 'Bearer service="x"', 'Basic realm="x"', "Bearer", "nonsense")
_ODD: dict[str, tuple[str | None, ...]] = {
    "Docker-Content-Digest": (
        *('"{digest}"', "{DIGEST}", "", "garbage", "sha256:" + "0" * 64, "sha256:12", None),
    ),
    "Content-Type": ("text/html", "text/plain", "application/json", "", "a/b; c=d", None),
    "Content-Encoding": ("", "identity", "aws-chunked", "UTF-8", "none"),
    "Content-Length": (None,),
    "ETag": (None, "", 'W/"x"', "unquoted"),
    "Accept-Ranges": (None, "none", ""),
    "Link": ("", '<>; rel="next"', "nonsense"),
    "Warning": ('299 - "old"',),
    "Vary": ("*",),
    "Cache-Control": ("no-store",),
    "Connection": ("close",),
    "Last-Modified": ("yesterday",),
    "Date": ("never",),
    "Docker-Distribution-Api-Version": (None, "registry/1.0"),
    "Retry-After": ("3600", ""),
}
_RANGES: tuple[Deviation, ...] = (
    Deviation(method="range", headers=(("Content-Range", None),)),
    Deviation(method="range", headers=(("Content-Range", "bytes {start}-{last}/*"),)),
    Deviation(method="range", headers=(("Content-Range", "nonsense"),)),
    Deviation(method="range", status=200),
    Deviation(method="range", status=206),
    Deviation(method="range", status=200, body="page"),
    Deviation(method="range", body="cut"),
    Deviation(method="range", body="wrong"),
    Deviation(method="range", act="drop"),
    Deviation(method="any", status=206, headers=(("Content-Range", "bytes 0-{last}/*"),)),
)
_TIMES = (None, None, 1, 2, 3)


def scenes(*manners: Manner) -> st.SearchStrategy[Scene]:
    """Return a strategy of scenes for clients of these manners, or of any."""
    among = manners or get_args(Manner)
    return st.randoms(use_true_random=True).map(lambda chance: drawn(chance, among))


def drawn(chance: Random, manners: tuple[Manner, ...]) -> Scene:
    """Draw a scene."""
    manner = chance.choice(manners)
    kinds = _LISTING if manner == "lists" else _PULLING
    return Scene(
        manner,
        tuple(_deviation(chance, kinds) for _ in range(chance.choice((1, 1, 2, 3)))),
        warm=chance.random() < 0.4,
        tag_ttl=chance.choice((60, 0)),
        moves=chance.random() < 0.5,
        upstream=chance.choice(("docker.io", "registry.test")),
        login=chance.random() < 0.7,
        account=chance.random() < 0.4,
        image=chance.choice(("image", "index", *get_args(ImageForm))),
        blobs=chance.choice(get_args(BlobForm)),
        listing=chance.choice(get_args(ListForm)),
        referrers=chance.choice(get_args(ReferrersForm)),
        limits=chance.choice(("none", *get_args(LimitForm))),
    ).sound()


def _deviation(chance: Random, kinds: tuple[Kind, ...]) -> Deviation:
    ways: tuple[Callable[[Random, Kind], Deviation], ...] = (
        *(_refusal, _refusal, _refusal, _header, _header, _body, _silence, _range),
    )
    kind = chance.choice(kinds)
    deviation = chance.choice(ways)(chance, kind)
    of_blob = deviation.kind in ("blob", "content")
    silent = deviation.act == "hang" or deviation.body == "stalls"  # which takes time at each try
    only = chance.choice((0, 1, 3) if silent else (None, None, 0, 1, 3)) if of_blob else None
    return replace(deviation, times=chance.choice(_TIMES), only=only)


def _method(chance: Random, kind: Kind) -> Method:
    return chance.choice(_METHODS.get(kind, ("any",)))


def _refusal(chance: Random, kind: Kind) -> Deviation:
    """Draw an error of the registry, or of another host to which it redirects."""
    method, status = _method(chance, kind), chance.choice(_ERRORS)
    away = kind not in ("token", "base", "content") and chance.random() < 0.3
    page: Page = chance.choice(get_args(Page))
    headers: Headers = ()
    if status in (429, 503):
        long = status == 429 and (away or kind in ("content", "referrers", "tags"))
        headers = chance.choice((*_WAITS, _HOURS, _HOURS) if long else _WAITS)
    if status == 401 and chance.random() < 0.6:
        headers = (("WWW-Authenticate", chance.choice(_CHALLENGES)),)
    return Deviation(kind, method, status=status, page=page, headers=headers, away=away)


def _header(chance: Random, kind: Kind) -> Deviation:
    """Draw a right answer with a header that is absent, empty or odd."""
    method, name = _method(chance, kind), chance.choice([*_ODD])
    value = chance.choice(_ODD[name])
    if name == "Content-Length" and method == "HEAD":
        value = chance.choice((None, "0"))
    return Deviation(kind, method, headers=((name, value),))


def _body(chance: Random, kind: Kind) -> Deviation:
    """Draw a body that is cut, wrong, or a web page, or another kind of success."""
    body: Body = chance.choice(get_args(Body)[:-1])
    status = chance.choice((None, None, 203, 206))
    return Deviation(kind, _method(chance, kind), status=status, body=body)


def _silence(chance: Random, kind: Kind) -> Deviation:
    """Draw a connection that drops or hangs; a hang is rarer, as it takes time."""
    if chance.random() < 0.7:
        return Deviation(kind, _method(chance, kind), act="drop")
    if chance.random() < 0.5:
        return Deviation(kind, _method(chance, kind), act="hang")
    return Deviation(kind, _method(chance, kind), body="stalls")


def _range(chance: Random, kind: Kind) -> Deviation:
    """Draw a ranged question that gets anything but the right part."""
    if kind not in ("blob", "content"):
        return _refusal(chance, kind)
    return replace(chance.choice(_RANGES), kind=kind)
