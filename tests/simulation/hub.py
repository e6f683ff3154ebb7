"""A model of Docker Hub: tags that move, and a pull limit that counts each GET of a manifest."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from mirror.budget.budget import CHECKED
from mirror.oci.errors import ManifestUnknown, PullLimitSpent, UpstreamUnavailable
from mirror.oci.names import HUB, HUB_WINDOW
from mirror.upstream.telemetry import PullLimit
from tests.simulation.trace import Name
from tests.standin import Document, Image, Index, make_image, make_index

_CHECK = Name(CHECKED[HUB], "latest")


@dataclass
class Clock:
    """The time of a simulation, in seconds from its first midnight."""

    now: float = 0.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@dataclass(frozen=True, slots=True)
class Terms:
    """The hub's limit: `limit` pulls in any `window` seconds, or in each window of a `fixed` grid.

    Answers take `seconds`, and name the limit if it is `named`; refusals tell when a pull returns
    if they have `retry_after`.
    """

    limit: int = 100
    window: int = HUB_WINDOW
    fixed: bool = False
    seconds: float = 0.0
    named: bool = True
    retry_after: bool = False


@dataclass
class Hub:
    """The hub, which sees one address of all its clients."""

    terms: Terms
    clock: Clock
    down: bool = False
    counted: int = 0  # pulls, without those of others
    refused: int = 0
    heads: int = 0
    documents: dict[str, Document] = field(default_factory=dict)
    _tags: dict[Name, Document] = field(default_factory=dict)
    _left_at: dict[tuple[Name, str], float] = field(default_factory=dict)
    _spent: deque[float] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.tag(_CHECK, make_image("check", (1,)))

    def __repr__(self) -> str:
        return f"<Hub: {self.counted} pulls counted, {self.remaining} left>"

    # Content

    def tag(self, name: Name, document: Document) -> None:
        """Let a tag point at a document."""
        if (old := self._tags.get(name)) is not None:
            self._left_at[name, old.digest] = self.clock()
        self._tags[name] = document
        for each in (document, *(document.images if isinstance(document, Index) else ())):
            self.documents[each.digest] = each

    def points_at(self, name: Name) -> Document:
        """Return the document that a tag points at now."""
        return self._tags[name]

    def stale_for(self, name: Name, digest: str) -> float:
        """Return for how many seconds a tag has pointed elsewhere; 0 if it still points there."""
        if self._tags[name].digest == digest:
            return 0.0
        return self.clock() - self._left_at[name, digest]

    # The limit

    @property
    def remaining(self) -> int:
        """The number of pulls that are left."""
        now = self.clock()
        begin = now - now % self.terms.window if self.terms.fixed else now - self.terms.window
        while self._spent and (self._spent[0] < begin or self._spent[0] <= now - self.terms.window):
            self._spent.popleft()
        return max(0, self.terms.limit - len(self._spent))

    def _back_in(self) -> float:
        """Return after how many seconds a pull returns, if none is left."""
        now, window = self.clock(), self.terms.window
        return window - now % window if self.terms.fixed else self._spent[0] + window - now

    @property
    def word(self) -> PullLimit | None:
        """The limit that the headers report."""
        if not self.terms.named:
            return None
        return PullLimit(self.terms.limit, self.remaining, self.terms.window, "192.0.2.1")

    def spend_elsewhere(self) -> None:
        """Count a pull of another client behind the address, if it is granted."""
        if self.remaining and not self.down:
            self._spent.append(self.clock())

    # Answers

    def head(self, repository: str, reference: str) -> Document:
        """Answer a HEAD, which is not counted. Raises ManifestUnknown, UpstreamUnavailable."""
        self.heads += 1
        return self._find(repository, reference)

    def _find(self, repository: str, reference: str) -> Document:
        if self.down:
            raise UpstreamUnavailable("the hub is away")
        if ":" in reference:
            document = self.documents.get(reference)
        else:
            document = self._tags.get(Name(repository, reference))
        if document is None:
            raise ManifestUnknown(f"no {repository}:{reference}")
        return document

    def get(self, repository: str, reference: str) -> Document:
        """Answer a GET, which is counted. Raises the errors of a HEAD, and PullLimitSpent."""
        document = self._find(repository, reference)
        if not self.remaining:
            self.refused += 1
            wait = math.ceil(self._back_in()) if self.terms.retry_after else None
            raise PullLimitSpent("You have reached your pull rate limit.", retry_after=wait)
        self._spent.append(self.clock())
        self.counted += 1
        return document


def make_document(name: Name, version: int, platforms: int) -> Document:
    """Make the document of a tag: one manifest, or an index with one for each of the platforms."""
    images = [
        make_image(f"{name}/{version}", (1,), architecture=f"arch{number}")
        for number in range(platforms)
    ]
    return images[0] if platforms == 1 else make_index(images)


def parts(document: Document) -> tuple[str, ...]:
    """List the digests that a runner, of the first platform, needs from a document."""
    if isinstance(document, Image):
        return (document.digest,)
    return (document.digest, document.images[0].digest)
