"""The book: the answers of a registry without deviations, in the forms that a scene gives it.

Pure: a question and the content in, an answer out.
"""

from __future__ import annotations

import json
from urllib.parse import parse_qs

from multidict import CIMultiDict

from tests.differential.content import Content
from tests.differential.port import Answer, Asked
from tests.differential.scene import Kind, Page, Scene
from tests.standin.images import OCI

HTML = b"<html><head><title>Just a moment</title></head><body>Not here.</body></html>"
_PAGE = 2  # tags
_PAGES: dict[Page, tuple[str, bytes]] = {
    "html": ("text/html; charset=utf-8", HTML),
    "plain": ("text/plain", b"no\n"),
    "xml": ("application/xml", b"<Error><Code>AccessDenied</Code></Error>"),
    "none": ("", b""),
}
_CODES = {401: "UNAUTHORIZED", 403: "DENIED", 404: "MANIFEST_UNKNOWN", 429: "TOOMANYREQUESTS"}
_LIMITS = {
    "none": {},
    "hub": {
        "ratelimit-limit": "100;w=21600",
        "ratelimit-remaining": "76;w=21600",
        "docker-ratelimit-source": "192.0.2.1",
    },
    "gateway": {"RateLimit-Limit": "600", "RateLimit-Remaining": "0", "RateLimit-Reset": "30"},
    "few": {"RateLimit-Limit": "600", "RateLimit-Remaining": "20", "RateLimit-Reset": "30"},
}


def error(status: int, page: Page = "json") -> Answer:
    """Return a refusal with a body of this kind."""
    if page == "json":
        code = _CODES.get(status, "UNKNOWN")
        told = json.dumps({"errors": [{"code": code, "message": "so it is"}]}).encode()
        return of(told, "application/json", status)
    media_type, body = _PAGES[page]
    return of(body, media_type, status)


def of(body: bytes, media_type: str, status: int = 200, **headers: str) -> Answer:
    """Return an answer with a body; without a Content-Type if `media_type` is empty."""
    told = {"Content-Type": media_type} if media_type else {}
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, CIMultiDict({**told, "Content-Length": str(len(body))}), body)


def manifest(scene: Scene, has: Content, reference: str) -> Answer:
    """Return the answer for a manifest, by tag or digest."""
    document = has.manifests.get(has.tags.get(reference, reference))
    if scene.referrers == "itself" and reference == has.top.digest.replace(":", "-"):
        document = has.top
    if document is None:
        return error(404)
    answer = of(document.body, document.media_type, Docker_Content_Digest=document.digest)
    answer.headers["ETag"] = f'"{document.digest}"'
    if scene.limits == "hub":
        answer.headers.update(_LIMITS["hub"])
    return answer


def blob(has: Content, digest: str, asked: Asked) -> Answer:
    """Return the answer for a blob, or for the range of it that is asked for."""
    data = has.blobs.get(digest)
    if data is None:
        return error(404)
    answer = of(data, "application/octet-stream", Docker_Content_Digest=digest)
    answer.headers["Accept-Ranges"] = "bytes"
    wanted = asked.headers.get("Range", "").removeprefix("bytes=")
    return answer if asked.method == "HEAD" or not wanted else part(answer, wanted)


def part(answer: Answer, wanted: str) -> Answer:
    """Cut `a-b` or `a-` out of a whole answer (RFC 9110, 14)."""
    size = len(answer.body)
    first, _, last = wanted.partition("-")
    start, stop = int(first), min(int(last) + 1 if last else size, size)
    if start >= stop:
        refusal = error(416, "none")
        refusal.headers["Content-Range"] = f"bytes */{size}"
        return refusal
    answer.status, answer.body = 206, answer.body[start:stop]
    answer.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    answer.headers["Content-Length"] = str(stop - start)
    return answer


def location(scene: Scene, origin: str, repository: str, digest: str) -> str:
    """Return the address of a blob, or "" if the registry itself sends it."""
    path = f"{repository}/{digest}?Signature=a%2Fb%3D"
    return {
        "here": "",
        "away": f"{origin}/content/{path}",
        "relative": f"/content/{path}",
        "space": f"{origin}/content/a b/{path}",
        "hops": f"{origin}/hop/{path}",
    }[scene.blobs]


def redirect(to: str, status: int = 307) -> Answer:
    """Return a redirect."""
    return Answer(status, CIMultiDict({"Location": to, "Content-Length": "0"}))


def tags(scene: Scene, has: Content, repository: str, query: str) -> Answer:
    """List the tags in the scene's form."""
    every = sorted(has.tags)
    if scene.listing == "null":
        return of(_json({"name": repository, "tags": None}), "application/json")
    if scene.listing == "odd entry":
        every.append("no tag!")
    asked = {name: values[0] for name, values in parse_qs(query).items()}
    if scene.listing in ("whole", "map", "odd entry"):
        told: dict[str, object] = {"name": repository, "tags": every}
        told |= {"manifest": {}, "child": []} if scene.listing == "map" else {}
        return of(_json(told), "application/json")
    key = "next_page" if scene.listing == "token" else "last"
    left = [each for each in every if each > asked.get(key, "")]
    shown = left[: min(int(asked.get("n", _PAGE)), _PAGE)]
    answer = of(_json({"name": repository, "tags": shown}), "application/json")
    if len(left) > len(shown):
        target = f"/v2/{repository}/tags/list?n={_PAGE}&{key}={shown[-1]}"
        answer.headers["Link"] = _link(scene, target)
    return answer


def _link(scene: Scene, target: str) -> str:
    if scene.listing == "other host":
        return f'<https://front.invalid:8443{target}>; rel="next"'
    return f"<{target}>; rel=next" if scene.listing == "unquoted" else f'<{target}>; rel="next"'


def referrers(scene: Scene, has: Content, digest: str) -> Answer:
    """List a manifest's referrers, or lack the interface in the scene's form."""
    match scene.referrers:
        case "none" | "itself":
            return error(404)
        case "not allowed":
            return error(405)
        case "bad":
            return error(400, "plain")
        case "page":
            return error(404, "html")
        case "empty":
            return of(b"{}", "application/json")
    empty = _json({"schemaVersion": 2, "mediaType": OCI.index, "manifests": []})
    known = has.referrers is not None and digest == has.top.digest
    return of(has.referrers.body if known and has.referrers else empty, OCI.index)


def gateway(scene: Scene, kind: Kind, answer: Answer) -> Answer:
    """Add the headers of a gateway's limit on requests a minute to every answer."""
    if scene.limits in ("gateway", "few") and kind not in ("token", "content"):
        answer.headers.update(_LIMITS[scene.limits])
    return answer


def _json(document: object) -> bytes:
    return json.dumps(document).encode()
