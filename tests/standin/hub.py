"""The hub: a registry, its token server and its CDN, with counts for tests."""

from collections.abc import Callable
from typing import Self

from .answers import Answer, as_json
from .cdn import Cdn
from .faults import Faults
from .images import Document, Image, make_image
from .journal import Journal, PortName, Seen
from .limits import PullLimit
from .line import Line
from .port import Port
from .registry import Registry
from .repositories import Repositories
from .stats import is_body, summary
from .terms import Terms
from .tokens import Tokens

CHECK = "ratelimitpreview/test"  # a HEAD of its `latest` tells the remaining pulls (Docker's docs)


class Hub:
    """A stand-in for Docker Hub, listening on `host`; clients are sent to `advertise`.

    `rate` bounds the sum of all blob bodies, in bytes per second.
    """

    def __init__(
        self,
        terms: Terms | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        advertise: str | None = None,
        rate: float | None = None,
    ) -> None:
        self.terms = terms or Terms()
        self.repositories = Repositories()
        self.journal = Journal()
        self.faults = Faults(self._source)
        self.limits = PullLimit(self.terms)
        self.tokens = Tokens(self.terms, self.repositories)
        self.cdn = Cdn(self.terms, self.repositories, lambda: self.cdn_url)
        self._registry = Registry(
            self.terms,
            self.repositories,
            self.tokens,
            self.limits,
            realm=lambda: self.realm,
            sign=self.cdn.sign,
        )
        self.add(make_image(0), CHECK, "latest")
        self._host = host
        self._name = advertise or host
        self._port = port
        line = Line(rate) if rate else None
        self.ports: dict[PortName, Port] = {
            "registry": Port(self._registry, self.journal, self.faults, line, self._aside),
            "token": Port(self.tokens, self.journal, self.faults),
            "cdn": Port(self.cdn, self.journal, self.faults, line),
        }

    @property
    def url(self) -> str:
        """The registry's base URL."""
        return self._origin("registry")

    @property
    def realm(self) -> str:
        """The token endpoint."""
        return self.terms.realm or self._origin("token") + "/token"

    @property
    def cdn_url(self) -> str:
        """The CDN's base URL."""
        return self._origin("cdn")

    async def start(self) -> None:
        """Listen on all three ports."""
        for name, port in self.ports.items():
            port.reserve(self._host, self._port if name == "registry" else 0)
        await self.up()

    async def stop(self) -> None:
        """Break every connection and release the ports."""
        for port in self.ports.values():
            await port.close()

    async def down(self, *names: PortName) -> None:
        """Break every connection to these ports (without arguments, to all) and refuse new ones."""
        for name in names or self.ports:
            await self.ports[name].down()

    async def up(self, *names: PortName) -> None:
        """Listen again, on the same ports."""
        for name in names or self.ports:
            await self.ports[name].up()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def add(self, document: Document, repository: str, *tags: str) -> None:
        """Push an image, index or artifact with all its content, under these tags."""
        self.repositories.make(repository).keep(document)
        for tag in tags:
            self.tag(repository, tag, document)
        if isinstance(document, Image) and document.subject and not self.terms.referrers:
            self.repositories.add_fallback_tags(repository)

    def tag(self, repository: str, tag: str, document: Document) -> None:
        """Point a tag at this document, and push it if need be."""
        home = self.repositories.make(repository)
        home.keep(document)
        home.tags[tag] = document.digest

    def untag(self, repository: str, tag: str) -> None:
        """Remove a tag."""
        self.repositories.make(repository).tags.pop(tag, None)

    def remove(self, repository: str, digest: str | None = None) -> None:
        """Remove a repository, or one manifest or blob of it."""
        self.repositories.remove(repository, digest)

    def make_private(self, repository: str, *readers: str) -> None:
        """Let only these users pull from a repository, with tokens issued from now on."""
        self.repositories.make(repository).readers = frozenset(readers)

    @property
    def requests(self) -> list[Seen]:
        """Every request so far, in its present state."""
        return self.journal.entries

    def count(self, **fields: object) -> int:
        """Count the requests with these values: `count(kind="manifest", method="GET")`."""
        return len(self.journal.matching(**fields))

    @property
    def pulls(self) -> int:
        """The number of counted pulls."""
        return self.count(counted=True)

    def bodies(self, digest: str) -> int:
        """Count the begun bodies of this blob."""
        return sum(is_body(seen) for seen in self.journal.matching(digest=digest))

    def blob_bytes(self, digest: str) -> int:
        """Count the sent bytes of this blob."""
        return sum(s.bytes_sent for s in self.journal.matching(digest=digest) if is_body(s))

    async def seen(
        self, wanted: Callable[[Seen], bool], n: int = 1, within: float = 5.0
    ) -> list[Seen]:
        """Wait for `n` matching requests, answered or not; fail after `within` seconds."""
        return await self.journal.wait(wanted, n, within)

    async def quiet(self, within: float = 5.0) -> None:
        """Wait until no request is being answered."""
        await self.journal.quiet(within)

    def _origin(self, name: PortName) -> str:
        return f"http://{self._name}:{self.ports[name].number}"

    def _source(self, seen: Seen) -> PortName:
        sent_on = seen.kind == "blob" and self._registry.redirects(seen)
        return "cdn" if sent_on else seen.port

    def _aside(self, method: str, path: str) -> Answer | None:
        match method, path:
            case "GET", "/_standin/stats":
                return as_json(summary(self.journal))
            case "POST", "/_standin/reset":
                self.journal.clear()
                self.limits.renew()
                return as_json({})
            case _:
                return None

    def __repr__(self) -> str:
        return f"<Hub {self.url}: {self.journal!r}, {self.faults!r}>"
