"""What an operator orders and what is told of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked

from mirror.failure import CommandFailed

_STRICT = ConfigDict(extra="forbid")
_Positive = Annotated[int, Field(gt=0)]


class UpkeepError(CommandFailed):
    """An order cannot be carried out; the message says why, in one line."""


# Orders


def _dry(dry: bool) -> str:
    return " --dry-run" if dry else ""


@checked(frozen=True, config=_STRICT)
class Verify:
    """Hash what is kept: all, `percent` of it or `count` blobs; at most `rate` bytes a second.

    A `dry` one only tells what is wrong.
    """

    percent: Annotated[float, Field(gt=0, le=100)] | None = None
    count: _Positive | None = None
    rate: _Positive | None = None
    dry: bool = False
    kind: Literal["verify"] = "verify"

    def __str__(self) -> str:
        """As it was typed."""
        share = "" if self.percent is None else f" --sample {self.percent:g}%"
        count = "" if self.count is None else f" --sample {self.count}"
        rate = "" if self.rate is None else f" --rate {self.rate}"
        return f"verify{share}{count}{rate}{_dry(self.dry)}"


@checked(frozen=True, config=_STRICT)
class Collect:
    """Remove what is of no use, and keep the bound; a `dry` one tells what would go."""

    dry: bool = False
    kind: Literal["gc"] = "gc"

    def __str__(self) -> str:
        """As it was typed."""
        return f"gc{_dry(self.dry)}"


@checked(frozen=True, config=_STRICT)
class Purge:
    """Remove an image, a repository, or content by its digest, as the operator names it.

    A `dry` one tells what would go.
    """

    target: str
    dry: bool = False
    kind: Literal["purge"] = "purge"

    def __str__(self) -> str:
        """As it was typed."""
        return f"purge {self.target}{_dry(self.dry)}"


@checked(frozen=True, config=_STRICT)
class Measure:
    """Tell what takes the space."""

    kind: Literal["du"] = "du"

    def __str__(self) -> str:
        """As it was typed."""
        return self.kind


@checked(frozen=True, config=_STRICT)
class Reckon:
    """Tell what is left of the pull limits, who spent it, and how long it lasts."""

    kind: Literal["budget"] = "budget"

    def __str__(self) -> str:
        """As it was typed."""
        return self.kind


@checked(frozen=True, config=_STRICT)
class Reload:
    """Read the configuration anew, and go by it."""

    kind: Literal["reload"] = "reload"

    def __str__(self) -> str:
        """As it was typed."""
        return self.kind


Work = Verify | Collect | Purge | Measure | Reckon  # what needs the data folder
Order = Work | Reload

# What is told on the way


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is: so many of these blobs, so many of their bytes."""

    blobs: int
    all_blobs: int
    bytes: int
    all_bytes: int
    kind: Literal["progress"] = "progress"


@dataclass(frozen=True, slots=True)
class Wrong:
    """A blob that is not what its name says, and why."""

    digest: str
    reason: str
    kind: Literal["wrong"] = "wrong"


# How it ended


@dataclass(frozen=True, slots=True)
class Refused:
    """Why nothing could be done."""

    reason: str
    kind: Literal["refused"] = "refused"


@dataclass(frozen=True, slots=True)
class Verified:
    """How many blobs were hashed, their bytes, and how many of them were wrong.

    After a `dry` order those are where they were.
    """

    blobs: int
    bytes: int
    wrong: int
    dry: bool = False
    kind: Literal["verified"] = "verified"


@dataclass(frozen=True, slots=True)
class Collected:
    """How many partials, files without a row, rows without their file and victims of the bound.

    `freed` is in bytes. After a `dry` order all of that would go, and is there.
    """

    partials: int
    strangers: int
    rows: int
    evicted: int
    freed: int
    dry: bool = False
    kind: Literal["collected"] = "collected"


@dataclass(frozen=True, slots=True)
class Purged:
    """How many tags and files went, how many stayed because others need them; bytes freed.

    After a `dry` order all of that would go, and is there.
    """

    target: str
    tags: int
    files: int
    shared: int
    freed: int
    dry: bool = False
    kind: Literal["purged"] = "purged"


@dataclass(frozen=True, slots=True)
class ImageUsage:
    """A tag, or a manifest without one. Bytes of all that is kept of it, and that only it needs."""

    reference: str
    digest: str
    bytes: int
    alone: int


@dataclass(frozen=True, slots=True)
class RepositoryUsage:
    """A repository. Bytes of all that it holds, and that no other holds, too."""

    repository: str
    bytes: int
    alone: int
    images: tuple[ImageUsage, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """What takes the space, in bytes.

    `used` is the sum of kept, partial, promised, index, leaving and quarantine.
    `kept` is the sum of what each repository holds alone, what several share, and what belongs
    to none yet.
    """

    limit: int
    used: int
    kept: int
    partial: int
    promised: int
    index: int
    leaving: int
    quarantine: int
    shared: int
    unclaimed: int
    repositories: tuple[RepositoryUsage, ...]
    kind: Literal["usage"] = "usage"


@dataclass(frozen=True, slots=True)
class Spender:
    """Who spent pulls, or on what they were spent."""

    name: str
    pulls: int


@dataclass(frozen=True, slots=True)
class AccountBudget:
    """The pull limit of one account of an upstream. Durations are in seconds from now.

    `heard` is how long ago upstream said something of it, `rate` in pulls an hour. `spent` has the
    window's pulls in equal parts of it, the oldest first; `returns` when they come back, at most a
    thousand of them. `asked` is what clients pulled in the hours that the window touches, of the
    account that upstream is asked as now. None is no limit, no end, or nothing known.
    """

    upstream: str
    account: str
    source: str
    window: int
    limit: int | None
    remaining: int | None
    used: int
    others: int | None
    heard: int | None
    rate: float
    lasts: int | None
    whole: int | None
    shut: int
    asked: int | None
    spent: tuple[int, ...]
    returns: tuple[int, ...]
    clients: tuple[Spender, ...]
    repositories: tuple[Spender, ...]
    tags: tuple[Spender, ...]


@dataclass(frozen=True, slots=True)
class Budgets:
    """What is left, who spent it, and how long it lasts."""

    accounts: tuple[AccountBudget, ...]
    kind: Literal["budgets"] = "budgets"


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The keys that are in force as they were changed, and those that want a restart for it."""

    changed: tuple[str, ...]
    restart: tuple[str, ...]
    kind: Literal["reloaded"] = "reloaded"

    def words(self) -> Iterator[str]:
        """Say so, a line for each kind."""
        if self.changed:
            yield f"changed: {', '.join(self.changed)}"
        if self.restart:
            yield f"wants a restart, and stays what it was: {', '.join(self.restart)}"
        if not self.changed and not self.restart:
            yield "nothing has changed"


@dataclass(frozen=True, slots=True)
class Unusable:
    """Why the configuration cannot be used, so that nothing was changed."""

    reason: str
    kind: Literal["unusable"] = "unusable"


Done = Verified | Collected | Purged | Usage | Budgets | Reloaded
Record = Progress | Wrong | Refused | Unusable | Done
