"""The plain client pulls as docker, containerd and skopeo do without a mirror."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.differential.asking import ACCEPT, Asking, Reply
from tests.differential.content import TAG
from tests.standin.blobs import digest_of
from tests.standin.images import OCI

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)
_AGAIN = frozenset({500, 502, 503, 504})
_LINK = re.compile(r"<([^>]*)>")
_MOST_PAGES = 100
# The mirror says so where its list is not upstream's (docs/architecture.md, "Listings").
_KNOWN = "the tags that clients asked for"


@dataclass
class Got:
    """The items that a client got, by name: each is proven, or complete. `why` explains the rest.

    `again` tells that only a second try succeeded for an item; `wrong` are whole answers with a
    good status and the wrong content.
    """

    items: dict[str, bytes] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    again: bool = False
    wrong: list[str] = field(default_factory=list)


class Plain:
    """A client that asks each question up to `tries` times: a cut, a 5xx or wrong bytes may pass.

    The client takes content that it can prove. By tag that is a manifest which the digest in the
    answer, if there is one, does not contradict; a web page is no manifest.
    """

    def __init__(self, asking: Asking, tries: int = 2) -> None:
        self._asking = asking
        self._tries = tries
        self.got = Got()

    async def pull(self, repository: str, *, head: bool = False, known: str = "") -> None:
        """Pull the manifest of TAG, or else `known`, and all content that it names."""
        await self._asking.greet()
        digest = await self._resolved(repository) if head else None
        if digest is None:
            digest = await self.by_tag(repository, TAG)
        if digest is None and known and await self.manifest(repository, known) is not None:
            digest = known
        if digest is not None:
            await self._children(repository, self.got.items[f"manifest {repository} {digest}"])

    async def lists(self, repository: str, digest: str) -> None:
        """List the tags, and a manifest's referrers."""
        await self._asking.greet()
        await self._tags(repository)
        await self._referrers(repository, digest)

    async def by_tag(self, repository: str, tag: str) -> str | None:
        """Get a manifest by its tag; returns its digest, or None without it."""
        name = f"tag {repository} {tag}"
        reply = await self._had(name, repository, f"manifests/{tag}", _plausible)
        if reply is None:
            return None
        self.got.items[f"manifest {repository} {digest_of(reply.body)}"] = reply.body
        return digest_of(reply.body)

    async def manifest(self, repository: str, digest: str) -> bytes | None:
        """Get a manifest by its digest."""
        name = f"manifest {repository} {digest}"
        reply = await self._had(name, repository, f"manifests/{digest}", _names(digest))
        return None if reply is None else reply.body

    async def _resolved(self, repository: str) -> str | None:
        """Learn the tag's digest by HEAD, and get the manifest by that digest."""
        digest = await self._by_head(repository)
        body = None if digest is None else await self.manifest(repository, digest)
        if body is not None:
            self.got.items[f"tag {repository} {TAG}"] = body
        return None if body is None else digest

    async def _by_head(self, repository: str) -> str | None:
        """Ask for the tag's digest without a pull; None if the answer lacks a part."""
        reply = await self._asking.ask(repository, f"manifests/{TAG}", "HEAD", ACCEPT)
        self.got.why["head"] = "no answer" if reply is None else str(reply.status)
        if reply is None or not reply.good:
            return None
        told = reply.headers.get("Docker-Content-Digest", "")
        sized = reply.headers.get("Content-Length", "0") != "0"
        whole = _DIGEST.fullmatch(told) and sized and reply.headers.get("Content-Type")
        if whole:
            self.got.items[f"head {repository} {TAG}"] = told.encode()
        return told if whole else None

    async def _children(self, repository: str, body: bytes) -> None:
        """Get a manifest's children: the first platform of an index, or all blobs of an image."""
        document = json.loads(body)
        for child in document.get("manifests", [])[:1]:
            below = await self.manifest(repository, child["digest"])
            if below is not None:
                await self._children(repository, below)
        for digest in _blobs(document):
            name = f"blob {repository} {digest}"
            await self._had(name, repository, f"blobs/{digest}", _names(digest))

    async def _tags(self, repository: str) -> None:
        path, found = "tags/list", set[str]()
        for _ in range(_MOST_PAGES):
            reply = await self._had(f"page {repository}", repository, path, _is_list)
            self.got.items.pop(f"page {repository}", None)
            if reply is None:
                return
            if _KNOWN in reply.headers.get("Warning", ""):
                self.got.why[f"tags {repository}"] = "the list says that it is not whole"
                return
            found |= {each for each in json.loads(reply.body)["tags"] or [] if _TAG.fullmatch(each)}
            link = _LINK.match(reply.headers.get("Link", ""))
            if link is None:
                break
            # On any host in the link, skopeo takes its path and query to the registry it asked.
            target = urlsplit(link[1])
            path = f"{target.path.partition(repository + '/')[2]}?{target.query}"
        self.got.items[f"tags {repository}"] = json.dumps(sorted(found)).encode()

    async def _referrers(self, repository: str, digest: str) -> None:
        name = f"referrers {repository} {digest}"
        reply = await self._asked(name, repository, f"referrers/{digest}")
        if reply is not None and "next" in reply.headers.get("Link", ""):
            return  # a registry of few referrers has no second page
        if reply is not None and reply.good and _lists_referrers(reply):
            self.got.items[name] = _digests(reply.body)
        elif reply is not None and _knows_no_referrers(reply):
            await self._fallback(name, repository, digest)

    async def _fallback(self, name: str, repository: str, digest: str) -> None:
        """Read the tag that replaces the interface (distribution-spec, "Referrers Tag")."""
        path = f"manifests/{digest.replace(':', '-')}"
        reply = await self._asked(name, repository, path, OCI.index)
        if reply is not None and reply.status == 404:
            self.got.items[name] = b"[]"
        elif reply is not None and reply.good and _plausible(reply):
            if digest_of(reply.body) == digest:
                self.got.items[name] = b"[]"
            elif _lists_referrers(reply):
                self.got.items[name] = _digests(reply.body)

    async def _had(
        self, name: str, repository: str, path: str, right: Callable[[Reply], bool]
    ) -> Reply | None:
        """Ask until the answer is right; its body goes to `got`."""
        accept = ACCEPT if path.startswith("manifests/") else ""
        reply = await self._asked(name, repository, path, accept, right)
        if reply is None or not reply.good or not right(reply):
            return None
        self.got.items[name] = reply.body
        return reply

    async def _asked(
        self,
        name: str,
        repository: str,
        path: str,
        accept: str = "",
        right: Callable[[Reply], bool] = lambda _: True,
    ) -> Reply | None:
        reply = None
        for number in range(self._tries):
            reply = await self._asking.ask(repository, path, accept=accept)
            if reply is None or reply.status in _AGAIN:
                continue
            if not reply.good or right(reply):
                self.got.again |= number > 0 or self._asking.again
                break
            self.got.wrong.append(name)
        self.got.why[name] = "no whole answer" if reply is None else _told(reply)
        return reply


def _told(reply: Reply) -> str:
    wait = reply.headers.get("Retry-After")
    said = reply.body[:200].decode(errors="replace") if reply.status >= 400 else "wrong"
    return f"{reply.status} {said}" + (f" (Retry-After {wait})" if wait else "")


def _names(digest: str) -> Callable[[Reply], bool]:
    return lambda reply: digest_of(reply.body) == digest


def _plausible(reply: Reply) -> bool:
    """Tell whether an answer may be a manifest, by its headers and keys."""
    told = reply.headers.get("Docker-Content-Digest", "")
    if _DIGEST.fullmatch(told) and told != digest_of(reply.body):
        return False
    if reply.headers.get("Content-Type", "").startswith("text/html"):
        return False
    document = _object(reply)
    return any(key in document for key in ("manifests", "layers", "fsLayers", "blobs"))


def _is_list(reply: Reply) -> bool:
    document = _object(reply)
    entries = document.get("tags", "none")
    return entries is None or (
        isinstance(entries, list) and all(isinstance(each, str) for each in entries)
    )


def _lists_referrers(reply: Reply) -> bool:
    told = reply.headers.get("Content-Type", "").partition(";")[0]
    return told == OCI.index and isinstance(_object(reply).get("manifests"), list)


def _knows_no_referrers(reply: Reply) -> bool:
    """Tell whether an answer means that there is no interface, rather than a broken list."""
    if reply.good:
        listed = reply.headers.get("Content-Type", "").startswith(OCI.index)
        return not listed or bool(_object(reply))
    return reply.status in (400, 404, 405)


def _digests(body: bytes) -> bytes:
    return json.dumps(sorted(each["digest"] for each in json.loads(body)["manifests"])).encode()


def _blobs(document: dict[str, Any]) -> list[str]:
    named = [document.get("config"), *document.get("layers", []), *document.get("blobs", [])]
    digests = [each["digest"] for each in named if each]
    digests += [each["blobSum"] for each in document.get("fsLayers", [])]
    return list(dict.fromkeys(digests))


def _object(reply: Reply) -> dict[str, Any]:
    try:
        document = json.loads(reply.body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
