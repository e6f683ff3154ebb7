"""The upstream: a registry, its token server and its content network, which deviate as planned."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Self
from urllib.parse import parse_qs

from tests.differential import book, deviate
from tests.differential.content import APP, OTHER, TAG, content
from tests.differential.port import Answer, Asked, Port
from tests.differential.scene import Deviation, Kind, Scene

USER, PASSWORD = "robot", "s3cret-word"
_REGISTRY = re.compile(r"/v2/(.+)/(manifests|blobs|referrers|tags)/([^/]+)")
_NOUNS: dict[str, Kind] = {"blobs": "blob", "referrers": "referrers", "tags": "tags"}


@dataclass
class Seen:
    """One question, and its answer's status. `sent` are the bytes sent of the answer's body.

    `digest` is the reference's digest at that time.
    """

    kind: Kind
    method: str
    repository: str
    reference: str
    digest: str
    status: int | None = None
    sent: int = 0

    @property
    def counted(self) -> bool:
        """Whether the question is a pull that Docker Hub would count."""
        manifest = self.kind in ("tag", "digest")
        return manifest and self.method == "GET" and self.status == 200

    def __str__(self) -> str:
        return f"{self.method} {self.kind} {self.repository} {self.reference[:19]}: {self.status}"


class Upstream:
    """Answers by the book and by the scene's deviations. Use as `async with Upstream(scene)`.

    If it is `paced`, large blobs are sent slowly.
    """

    def __init__(self, scene: Scene, *, paced: bool = False) -> None:
        self.scene = scene
        has = content(scene.image, scene.manner)
        self.has = replace(has, tags=dict(has.tags))
        self.seen: list[Seen] = []
        self._given: Counter[tuple[int, str, str]] = Counter()
        self._tokens: dict[str, str] = {}
        self.deviates = True
        self._registry = Port("127.0.0.1", self._at_registry, paced=paced)
        self._token = Port("127.0.0.1", self._at_token)
        self._content = Port("127.0.0.2", self._at_content, paced=paced)
        self._life = AsyncExitStack()

    @property
    def url(self) -> str:
        """The registry's address."""
        return self._registry.url

    @property
    def realm(self) -> str:
        """The origin of the token server."""
        return self._token.url

    def move(self) -> None:
        """Let the tag mean another image."""
        self.has.tags[TAG] = self.has.moved.digest

    async def __aenter__(self) -> Self:
        for port in (self._registry, self._token, self._content):
            await port.start()
            self._life.push_async_callback(port.close)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._life.aclose()

    def _at_registry(self, asked: Asked) -> Answer:
        if asked.path == "/v2/":
            seen = self._note("base", asked, "", "")
            return self._answer(seen, asked, self._base)
        found = _REGISTRY.fullmatch(asked.path)
        if found is None:
            return self._at_content(asked)
        repository, noun, reference = found.groups()
        kind = _NOUNS.get(noun) or ("digest" if ":" in reference else "tag")
        seen = self._note(kind, asked, repository, reference)
        if not self._let_in(asked, repository):
            return self._finish(seen, self._challenged(repository))
        return self._answer(seen, asked, partial(self._by_book, seen))

    def _at_token(self, asked: Asked) -> Answer:
        seen = self._note("token", asked, "", parse_qs(asked.query).get("scope", [""])[0])
        return self._answer(seen, asked, partial(self._grant, seen.reference))

    def _at_content(self, asked: Asked) -> Answer:
        _, stage, *rest = asked.path.replace("%20", " ").split("/")
        if stage == "away":
            number, path = int(rest[0]), "/" + "/".join(rest[1:])
            return self._elsewhere(number, Asked(asked.method, path, asked.query, asked.headers))
        if stage not in ("content", "hop") or " " in asked.path:
            return book.error(400, "html")
        path = "/".join(rest[1:] if rest[0] == "a b" else rest)
        if stage == "hop":
            return book.redirect(f"/content/{path}?{asked.query}", 302)
        repository, _, digest = path.rpartition("/")
        seen = self._note("content", asked, repository, digest)
        return self._answer(seen, asked, partial(self._of_content, digest))

    def _of_content(self, digest: str, asked: Asked) -> Answer:
        if "Authorization" in asked.headers and self.scene.blobs != "relative":
            return book.error(400, "xml")  # as R2 and S3 do
        return book.blob(self.has, digest, asked)

    def _elsewhere(self, number: int, asked: Asked) -> Answer:
        """Return the answer of the host to which a deviation redirects."""
        found = _REGISTRY.fullmatch(asked.path)
        assert found is not None
        repository, noun, reference = found.groups()
        kind = _NOUNS.get(noun) or ("digest" if ":" in reference else "tag")
        seen = self._note(kind, asked, repository, reference)
        deviation = self.scene.deviations[number]
        if not self.deviates:
            return self._finish(seen, self._by_book(seen, asked))
        answer = self._by_book(seen, deviate.heard(deviation, asked))
        return self._finish(seen, deviate.deviated(deviation, seen.method, answer, ""))

    def _answer(self, seen: Seen, asked: Asked, by_book: Callable[[Asked], Answer]) -> Answer:
        number = self._next(seen)
        if number is None:
            return self._finish(seen, by_book(asked))
        deviation = self.scene.deviations[number]
        if deviation.away:
            away = f"{self._content.url}/away/{number}{asked.path}?{asked.query}"
            return self._finish(seen, book.redirect(away))
        answer = by_book(deviate.heard(deviation, asked))
        challenge = self._challenge(seen.repository or APP)
        return self._finish(seen, deviate.deviated(deviation, seen.method, answer, challenge))

    def _next(self, seen: Seen) -> int | None:
        """Find the first deviation that is due, and count it for the repository and reference."""
        for number, deviation in enumerate(self.scene.deviations):
            asked = number, seen.repository, seen.reference
            due = deviation.times is None or self._given[asked] < deviation.times
            if self.deviates and due and self._strikes(deviation, seen):
                self._given[asked] += 1
                return number
        return None

    def _strikes(self, deviation: Deviation, seen: Seen) -> bool:
        if deviation.kind != seen.kind:
            return False
        if deviation.only is not None:
            order = self.has.order
            if order[deviation.only % len(order)] != seen.reference:
                return False
        return deviate.asked_by(deviation.method, seen.method)

    def _finish(self, seen: Seen, answer: Answer) -> Answer:
        seen.status = answer.status if answer.act == "answer" else None

        def count(sent: int) -> None:
            seen.sent += sent

        answer.sent = count
        return book.gateway(self.scene, seen.kind, answer)

    def _note(self, kind: Kind, asked: Asked, repository: str, reference: str) -> Seen:
        method = "range" if "Range" in asked.headers and asked.method == "GET" else asked.method
        seen = Seen(kind, method, repository, reference, self.has.tags.get(reference, reference))
        self.seen.append(seen)
        return seen

    def _by_book(self, seen: Seen, asked: Asked) -> Answer:
        if seen.repository not in (APP, OTHER):
            return book.error(404)
        match seen.kind:
            case "tags":
                return book.tags(self.scene, self.has, seen.repository, asked.query)
            case "referrers":
                return book.referrers(self.scene, self.has, seen.reference)
            case "blob":
                return self._blob(seen, asked)
        return book.manifest(self.scene, self.has, seen.reference)

    def _blob(self, seen: Seen, asked: Asked) -> Answer:
        digest = seen.reference
        to = book.location(self.scene, self._content.url, seen.repository, digest)
        if to and digest in self.has.blobs:
            return book.redirect(to)
        return book.blob(self.has, digest, asked)

    # Access

    def _base(self, asked: Asked) -> Answer:
        if self._let_in(asked, ""):
            return book.of(b"{}", "application/json")
        return self._challenged("")

    def _let_in(self, asked: Asked, repository: str) -> bool:
        if not self.scene.login:
            return True
        scheme, _, token = asked.headers.get("Authorization", "").partition(" ")
        scope = self._tokens.get(token)
        return scheme.lower() == "bearer" and scope is not None and scope in ("", repository)

    def _challenge(self, repository: str) -> str:
        if not self.scene.login:
            return ""
        scope = f',scope="repository:{repository}:pull"' if repository else ""
        return f'Bearer realm="{self.realm}/token",service="registry"{scope}'

    def _challenged(self, repository: str) -> Answer:
        answer = book.error(401)
        answer.headers["WWW-Authenticate"] = self._challenge(repository)
        return answer

    def _grant(self, scope: str, asked: Asked) -> Answer:
        given = asked.headers.get("Authorization", "")
        known = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if given and given != f"Basic {known}":
            return book.error(401)
        token = f"token-{len(self._tokens)}"
        self._tokens[token] = scope.split(":")[1] if scope.count(":") >= 2 else "nothing"
        told = {"token": token, "access_token": token, "expires_in": 300}
        return book.of(json.dumps(told).encode(), "application/json")
