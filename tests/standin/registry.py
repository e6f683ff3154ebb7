"""The registry: Docker Hub's answers under /v2/."""

import re
from collections.abc import Callable, Mapping
from urllib.parse import parse_qs, unquote, urlencode

from .answers import Answer, as_json, error, text, whole
from .blobs import Blob
from .images import OCI, Document, index_document, referrer_descriptor
from .journal import Kind, Seen
from .limits import PullLimit
from .repositories import Repositories, Repository
from .terms import Terms
from .tokens import Tokens

NAME = r"(?P<repository>.+)"
ROUTES: tuple[tuple[re.Pattern[str], Kind], ...] = (
    (re.compile(r"/v2/?"), "ping"),
    (re.compile(rf"/v2/{NAME}/manifests/(?P<reference>[^/]+)"), "manifest"),
    (re.compile(rf"/v2/{NAME}/blobs/(?P<reference>[^/]+)"), "blob"),
    (re.compile(rf"/v2/{NAME}/tags/list"), "tags"),
    (re.compile(rf"/v2/{NAME}/referrers/(?P<reference>[^/]+)"), "referrers"),
)
DIGEST = r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}"  # image-spec, "Registered algorithms"
API = {"Docker-Distribution-Api-Version": "registry/2.0"}
FOR_A_YEAR = {"Cache-Control": "max-age=31536000", "Accept-Ranges": "bytes"}
SPENT = "You have reached your {}pull rate limit. https://www.docker.com/increase-rate-limit"


class Registry:
    """Answers on the registry port.

    `realm` names the token server, `sign` makes the CDN's address of a blob.
    """

    def __init__(
        self,
        terms: Terms,
        repositories: Repositories,
        tokens: Tokens,
        limits: PullLimit,
        realm: Callable[[], str],
        sign: Callable[[Blob], str],
    ) -> None:
        self._terms = terms
        self._repositories = repositories
        self._tokens = tokens
        self._limits = limits
        self._realm = realm
        self._sign = sign

    def read(self, serial: int, method: str, target: str, headers: Mapping[str, str]) -> Seen:
        """Parse a request by its path."""
        path, _, query = target.partition("?")
        kind: Kind = "other"
        names: dict[str, str] = {}
        for pattern, wanted in ROUTES:
            if match := pattern.fullmatch(unquote(path)):
                kind, names = wanted, match.groupdict()
                break
        return Seen(
            serial,
            "registry",
            method,
            path,
            query,
            headers,
            kind,
            repository=names.get("repository"),
            reference=names.get("reference"),
        )

    def challenge(self, seen: Seen) -> Answer | None:
        """Refuse a request without a token or login for its repository."""
        if self._terms.auth == "none":
            return None
        if self._terms.auth == "basic":
            return self._challenge_basic(seen)
        grant = self._tokens.grant(seen.headers.get("authorization"))
        if grant and (seen.repository is None or seen.repository in grant.repositories):
            return None
        challenge = f'Bearer realm="{self._realm()}",service="{self._terms.service}"'
        if seen.repository:
            challenge += f',scope="repository:{seen.repository}:pull"'
        if grant:
            challenge += ',error="insufficient_scope"'
        elif "authorization" in seen.headers:
            challenge += ',error="invalid_token"'
        return _unauthorized(challenge)

    def answer(self, seen: Seen) -> Answer:
        """Answer an authorized request."""
        if seen.method not in ("GET", "HEAD"):
            return error(405, "the stand-in is for pulling").with_headers({"Allow": "GET, HEAD"})
        if seen.kind == "ping":
            return as_json({}, API)
        repository = self._repositories.get(seen.repository)
        if repository is None or not self._readable(repository, seen):
            return error(404, "repository name not known to registry", "NAME_UNKNOWN")
        return self._answer_in(repository, seen).with_headers(API)

    def _answer_in(self, repository: Repository, seen: Seen) -> Answer:
        match seen.kind:
            case "manifest":
                return self._manifest(repository, seen)
            case "blob":
                return self._blob(repository, seen)
            case "tags":
                return self._tags(repository, seen)
            case _:
                return self._referrers(repository, seen)

    def _challenge_basic(self, seen: Seen) -> Answer | None:
        if self._tokens.user(seen.headers.get("authorization")) is not None:
            return None
        return _unauthorized('Basic realm="Registry"')

    def _user(self, seen: Seen) -> str | None:
        authorization = seen.headers.get("authorization")
        grant = self._tokens.grant(authorization)
        return grant.user if grant else self._tokens.user(authorization)

    def _readable(self, repository: Repository, seen: Seen) -> bool:
        # A granted token stays valid, even when its user loses the right
        return self._terms.auth == "bearer" or repository.readable_by(self._user(seen))

    def _manifest(self, repository: Repository, seen: Seen) -> Answer:
        document, user = repository.find(seen.reference or ""), self._user(seen)
        if seen.repository in self._terms.sponsored and document is not None:
            return _serve(document, seen, counted=False)
        limited = seen.method == "GET" or self._terms.limit_heads or self._terms.count_heads
        if limited and self._limits.spent(user):
            message = SPENT.format("" if user else "unauthenticated ")
            return error(429, message).with_headers(self._limits.headers(user))
        if document is None:
            return error(404, "manifest unknown", "MANIFEST_UNKNOWN", f"unknown {seen.reference}")
        counted = seen.method == "GET" or self._terms.count_heads
        if counted:
            self._limits.count(user)
        answer = _serve(document, seen, counted=counted)
        return answer.with_headers(self._limits.headers(user))

    def _blob(self, repository: Repository, seen: Seen) -> Answer:
        blob = repository.blobs.get(seen.reference or "")
        if blob is None:
            return error(404, "blob unknown to registry", "BLOB_UNKNOWN", f"{seen.reference}")
        if self.redirects(seen):
            location = self._sign(blob)
            page = f'<a href="{location}">Temporary Redirect</a>.\n\n'.encode()
            moved = text(307, page, "text/html; charset=utf-8")
            return moved.with_headers({"Location": location})
        headers = {"Content-Type": "application/octet-stream", **_named(blob.digest), **FOR_A_YEAR}
        return whole(blob.data, headers, size=blob.size, digest=blob.digest)

    def redirects(self, seen: Seen) -> bool:
        """Tell whether this request for a blob is redirected to the CDN."""
        return self._terms.redirect and (seen.method != "HEAD" or self._terms.redirect_head)

    def _tags(self, repository: Repository, seen: Seen) -> Answer:
        asked = {name: values[-1] for name, values in parse_qs(seen.query).items()}
        if not asked.get("n", "0").isdecimal():
            return error(400, "invalid number of results requested", "PAGINATION_NUMBER_INVALID")
        size = min(int(asked.get("n", self._terms.page_size)), self._terms.page_size)
        rest = sorted(tag for tag in repository.tags if tag > asked.get("last", ""))
        page = as_json({"name": seen.repository, "tags": rest[:size]})
        if not size or len(rest) <= size:
            return page
        query = urlencode({"last": rest[size - 1], "n": size})
        return page.with_headers({"Link": f'</v2/{seen.repository}/tags/list?{query}>; rel="next"'})

    def _referrers(self, repository: Repository, seen: Seen) -> Answer:
        if seen.kind != "referrers" or not self._terms.referrers:
            return text(404, b"404 page not found\n", "text/plain; charset=utf-8")
        if not re.fullmatch(DIGEST, seen.reference or ""):
            return error(400, "provided digest did not match", "DIGEST_INVALID")
        wanted = parse_qs(seen.query).get("artifactType", [None])[-1]
        entries = [
            referrer_descriptor(artifact)
            for artifact in repository.referrers(seen.reference or "")
            if wanted in (None, artifact.artifact_type)
        ]
        headers = {"Content-Type": OCI.index}
        filtered = {"OCI-Filters-Applied": "artifactType"} if wanted else {}
        return whole(index_document(entries), headers | filtered)


def _serve(document: Document, seen: Seen, *, counted: bool) -> Answer:
    headers = {"Content-Type": document.media_type, **_named(document.digest)}
    if seen.headers.get("if-none-match") == headers["ETag"]:
        return Answer(304, headers, digest=document.digest, counted=counted)
    return whole(document.manifest, headers, digest=document.digest, counted=counted)


def _named(digest: str) -> dict[str, str]:
    return {"Docker-Content-Digest": digest, "ETag": f'"{digest}"'}


def _unauthorized(challenge: str) -> Answer:
    refused = error(401, "authentication required", "UNAUTHORIZED")
    return refused.with_headers({"WWW-Authenticate": challenge, **API})
