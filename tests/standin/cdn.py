"""The CDN: blobs for any client with a signed address and without credentials."""

import hashlib
import re
import secrets
from collections.abc import Callable, Mapping
from urllib.parse import quote

from .answers import Answer, text, whole
from .blobs import Blob
from .journal import Kind, Seen
from .repositories import Repositories
from .terms import Terms

SHELF = "/registry-v2/docker/registry/v2/blobs/sha256"
ON_SHELF = re.compile(rf"{SHELF}/../([a-f0-9]{{64}})/data")


class Cdn:
    """Answers on the CDN port. `origin` is its base URL."""

    def __init__(self, terms: Terms, repositories: Repositories, origin: Callable[[], str]) -> None:
        self._terms = terms
        self._repositories = repositories
        self._origin = origin
        self._signed: dict[str, float] = {}  # the end of each address, by its part after the origin

    def sign(self, blob: Blob) -> str:
        """Return an address that is valid for a short time, and that new quoting breaks."""
        encoded = blob.digest.removeprefix("sha256:")
        signature = quote(f"{secrets.token_hex(8)}+{secrets.token_hex(8)}/==", safe="")
        target = f"{SHELF}/{encoded[:2]}/{encoded}/data?verify={signature}"
        self._signed[target] = self._terms.clock() + self._terms.signature_life
        return self._origin() + target

    def expire(self) -> None:
        """Expire all addresses so far."""
        self._signed.clear()

    def read(self, serial: int, method: str, target: str, headers: Mapping[str, str]) -> Seen:
        """Parse a request: its reference is the digest in the path."""
        path, _, query = target.partition("?")
        place = ON_SHELF.fullmatch(path)
        kind: Kind = "blob" if place else "other"
        digest = f"sha256:{place[1]}" if place else None
        return Seen(serial, "cdn", method, path, query, headers, kind, reference=digest)

    def challenge(self, seen: Seen) -> Answer | None:
        """Refuse credentials, and addresses that were not signed or are used up."""
        if "authorization" in seen.headers:
            return _xml(400, "InvalidRequest", "Missing x-amz-content-sha256")
        if self._signed.get(f"{seen.path}?{seen.query}", 0) <= self._terms.clock():
            return _xml(403, "AccessDenied", "Request has expired or its signature is wrong")
        return None

    def answer(self, seen: Seen) -> Answer:
        """Serve the blob."""
        if self._terms.one_use:
            del self._signed[f"{seen.path}?{seen.query}"]
        blob = self._repositories.blob(seen.reference)
        if blob is None:
            return _xml(404, "NoSuchKey", "The specified key does not exist.")
        headers = {
            "Content-Type": "application/octet-stream",
            "ETag": f'"{hashlib.md5(blob.digest.encode(), usedforsecurity=False).hexdigest()}"',
            "Accept-Ranges": "bytes",
            "Cache-Control": "public, max-age=14400",
        }
        return whole(blob.data, headers, size=blob.size, digest=blob.digest)

    def __repr__(self) -> str:
        return f"<Cdn: {len(self._signed)} addresses signed>"


def _xml(status: int, code: str, message: str) -> Answer:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return text(status, body.encode(), "application/xml")
