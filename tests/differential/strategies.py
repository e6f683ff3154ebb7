"""The strategies: scenes as hypothesis draws them, the usual first so that they shrink to it."""

from __future__ import annotations

from typing import get_args

from hypothesis import strategies as st

from tests.differential.scene import (
    Act,
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
_HOURS = (("Retry-After", "3600"),)
_WAITS: tuple[Headers, ...] = (
    (),
    (("Retry-After", "1"),),
    (("Retry-After", "0"),),
    (("Retry-After", PAST),),
    (("Retry-After", "soon"),),
)
_METHODS: dict[Kind, tuple[Method, ...]] = {
    "tag": ("HEAD", "any", "whole"),
    "digest": ("HEAD", "any", "whole"),
    "blob": ("HEAD", "range", "any", "whole"),
    "content": ("HEAD", "range", "any", "whole"),
}
_ERRORS = (400, 401, 403, 404, 405, 406, 408, 416, 429, 500, 501, 502, 503, 504)
_ODD_DIGESTS = ('"{digest}"', "{DIGEST}", "", "garbage", "sha256:" + "0" * 64, "sha256:12", None)
_ODD_TYPES = ("text/html", "text/plain", "application/json", "", "a/b; c=d", None)
_ENCODINGS = ("", "identity", "aws-chunked", "UTF-8", "none")
_ODD: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    ("Docker-Content-Digest", _ODD_DIGESTS),
    ("Content-Type", _ODD_TYPES),
    ("Content-Encoding", _ENCODINGS),
    ("Content-Length", (None,)),
    ("ETag", (None, "", 'W/"x"', "unquoted")),
    ("Accept-Ranges", (None, "none", "")),
    ("Link", ("", '<>; rel="next"', "nonsense")),
    ("Warning", ('299 - "old"',)),
    ("Vary", ("*",)),
    ("Cache-Control", ("no-store",)),
    ("Connection", ("close",)),
    ("Last-Modified", ("yesterday",)),
    ("Date", ("never",)),
)
_RANGES: tuple[Deviation, ...] = (
    Deviation(method="range", headers=(("Content-Range", None),)),
    Deviation(method="range", headers=(("Content-Range", "bytes {start}-{last}/*"),)),
    Deviation(method="range", headers=(("Content-Range", "nonsense"),)),
    Deviation(method="range", status=200),
    Deviation(method="range", status=206),
    Deviation(method="range", status=200, body="page"),
    Deviation(method="any", status=206, headers=(("Content-Range", "bytes 0-{last}/*"),)),
)

kinds = st.sampled_from(get_args(Kind))
times = st.sampled_from((None, 1, 2, 3, 5))


def _of(kind: Kind) -> st.SearchStrategy[Method]:
    return st.sampled_from(_METHODS.get(kind, ("any",)))


def _only(kind: Kind) -> st.SearchStrategy[int | None]:
    if kind not in ("blob", "content"):
        return st.none()
    return st.sampled_from((None, 0, 1, 3))


@st.composite
def refusals(draw: st.DrawFn) -> Deviation:
    """Errors, of the registry or of another host that it leads to."""
    kind = draw(kinds)
    method = draw(_of(kind))
    status = draw(st.sampled_from(_ERRORS))
    away = kind not in ("token", "base", "content") and draw(st.booleans())
    page = draw(st.sampled_from(get_args(Page)))
    if status == 429 and kind == "tag" and page == "json":
        method = "any"  # that no pull is left is said of all manifests alike
    headers: Headers = ()
    if status in (429, 503):
        headers = draw(st.sampled_from(_WAITS))
        if status == 429 and (away or kind in ("content", "referrers", "tags")):
            headers = draw(st.sampled_from((headers, _HOURS)))
    if status == 401 and draw(st.booleans()):
        headers = (("WWW-Authenticate", draw(st.sampled_from((None, 'Bearer service="x"')))),)
    return Deviation(kind, method, draw(times), draw(_only(kind)), status, page, headers, away=away)


@st.composite
def headers(draw: st.DrawFn) -> Deviation:
    """Right answers with a header that is absent, empty or odd."""
    kind = draw(kinds)
    method = draw(_of(kind))
    name, values = draw(st.sampled_from(_ODD))
    value = draw(st.sampled_from(values))
    if name == "Content-Length" and method == "HEAD":
        value = draw(st.sampled_from((None, "0")))
    return Deviation(kind, method, draw(times), draw(_only(kind)), headers=((name, value),))


@st.composite
def bodies(draw: st.DrawFn) -> Deviation:
    """Answers whose bodies are cut, wrong, or a web page; other kinds of success."""
    kind = draw(kinds)
    method = draw(_of(kind))
    body = draw(st.sampled_from(get_args(Body)[:-1]))
    status = draw(st.sampled_from((None, 203, 206)))
    return Deviation(kind, method, draw(times), draw(_only(kind)), status=status, body=body)


@st.composite
def silences(draw: st.DrawFn) -> Deviation:
    """Connections that drop, or, more seldom as that takes time, hang."""
    kind = draw(kinds)
    act: Act = draw(st.sampled_from(("drop", "drop", "drop", "hang")))
    body: Body = "right"
    if act == "hang" and draw(st.booleans()):
        act, body = "answer", "stalls"
    return Deviation(kind, draw(_of(kind)), draw(times), draw(_only(kind)), body=body, act=act)


@st.composite
def ranged(draw: st.DrawFn) -> Deviation:
    """Ranged questions that get anything but the right part."""
    form = draw(st.sampled_from(_RANGES))
    kind: Kind = draw(st.sampled_from(("blob", "content")))
    return Deviation(kind, form.method, draw(times), None, form.status, "json", form.headers,
                     form.body)  # fmt: skip


deviations = st.one_of(refusals(), headers(), bodies(), silences(), ranged())


def scenes(*manners: Manner) -> st.SearchStrategy[Scene]:
    """Scenes for clients of these manners, or of any."""
    return st.builds(
        Scene,
        manner=st.sampled_from(manners or get_args(Manner)),
        deviations=st.lists(deviations, min_size=1, max_size=3).map(tuple),
        warm=st.booleans(),
        tag_ttl=st.sampled_from((60, 0)),
        upstream=st.sampled_from(("docker.io", "registry.test")),
        login=st.sampled_from((True, True, False)),
        account=st.booleans(),
        image=st.sampled_from(get_args(ImageForm)),
        blobs=st.sampled_from(get_args(BlobForm)),
        listing=st.sampled_from(get_args(ListForm)),
        referrers=st.sampled_from(get_args(ReferrersForm)),
        limits=st.sampled_from(get_args(LimitForm)),
    ).map(Scene.sound)
