"""The operator's orders, and the records that report on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked

from mirror.budget.summary import Budgets
from mirror.util.command_error import CommandError

_STRICT = ConfigDict(extra="forbid")
_Positive = Annotated[int, Field(gt=0)]


class OrderError(CommandError):
    """An order cannot be carried out; the message says why, in one line."""


# Orders


def _dry(dry: bool) -> str:
    return " --dry-run" if dry else ""


@checked(frozen=True, config=_STRICT)
class VerifyOrder:
    """Hash stored content: all, `percent` of it or `count` blobs; at most `rate` bytes a second.

    A `dry` order reports damage and removes nothing.
    """

    percent: Annotated[float, Field(gt=0, le=100)] | None = None
    count: _Positive | None = None
    rate: _Positive | None = None
    dry: bool = False
    kind: Literal["verify"] = "verify"

    def __str__(self) -> str:
        """Return the order as the operator types it."""
        share = "" if self.percent is None else f" --sample {self.percent:g}%"
        count = "" if self.count is None else f" --sample {self.count}"
        rate = "" if self.rate is None else f" --rate {self.rate}"
        return f"verify{share}{count}{rate}{_dry(self.dry)}"


@checked(frozen=True, config=_STRICT)
class GcOrder:
    """Remove useless files and rows, and evict down to the quota; a `dry` order only reports."""

    dry: bool = False
    kind: Literal["gc"] = "gc"

    def __str__(self) -> str:
        """Return the order as the operator types it."""
        return f"gc{_dry(self.dry)}"


@checked(frozen=True, config=_STRICT)
class PurgeOrder:
    """Remove an image, a repository, or content by its digest, as the operator names it.

    A `dry` order only reports.
    """

    target: str
    dry: bool = False
    kind: Literal["purge"] = "purge"

    def __str__(self) -> str:
        """Return the order as the operator types it."""
        return f"purge {self.target}{_dry(self.dry)}"


@checked(frozen=True, config=_STRICT)
class DuOrder:
    """Report the use of the disk."""

    kind: Literal["du"] = "du"

    def __str__(self) -> str:
        """Return the order as the operator types it."""
        return self.kind


@checked(frozen=True, config=_STRICT)
class BudgetOrder:
    """Report the pull limits: their remainder, spenders and forecast."""

    kind: Literal["budget"] = "budget"

    def __str__(self) -> str:
        """Return the order as the operator types it."""
        return self.kind


@checked(frozen=True, config=_STRICT)
class ReloadOrder:
    """Read the configuration again, and apply it."""

    kind: Literal["reload"] = "reload"

    def __str__(self) -> str:
        """Return the order as the operator types it."""
        return self.kind


Work = (
    VerifyOrder | GcOrder | PurgeOrder | DuOrder | BudgetOrder
)  # orders that need the data folder
Order = Work | ReloadOrder

# Records during an order


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress: blobs and bytes that are done, out of all."""

    blobs: int
    all_blobs: int
    bytes: int
    all_bytes: int
    kind: Literal["progress"] = "progress"


@dataclass(frozen=True, slots=True)
class Damaged:
    """A damaged blob, and the reason."""

    digest: str
    reason: str
    kind: Literal["wrong"] = "wrong"


# Results


@dataclass(frozen=True, slots=True)
class Refused:
    """The order failed; `reason` says why."""

    reason: str
    kind: Literal["refused"] = "refused"


@dataclass(frozen=True, slots=True)
class Verified:
    """The number of hashed blobs, their bytes, and the number of damaged blobs.

    After a `dry` order the damaged blobs are still stored.
    """

    blobs: int
    bytes: int
    wrong: int
    dry: bool = False
    kind: Literal["verified"] = "verified"


@dataclass(frozen=True, slots=True)
class Collected:
    """The numbers of partials, files without a row, rows without a file, and evicted blobs.

    `freed` is in bytes. After a `dry` order these are the numbers that `gc` would remove.
    """

    partials: int
    orphans: int
    rows: int
    evicted: int
    freed: int
    dry: bool = False
    kind: Literal["collected"] = "collected"


@dataclass(frozen=True, slots=True)
class Purged:
    """The numbers of removed tags and files, and of files that other images need; bytes freed.

    After a `dry` order these are the numbers that `purge` would remove.
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
    """A tag or an untagged manifest: its stored bytes, and the bytes that it `alone` needs."""

    reference: str
    digest: str
    bytes: int
    alone: int


@dataclass(frozen=True, slots=True)
class RepositoryUsage:
    """A repository: the bytes that it holds, and the bytes that it `alone` holds."""

    repository: str
    bytes: int
    alone: int
    images: tuple[ImageUsage, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """The use of the disk, in bytes.

    `used` is the sum of kept, partial, promised, index, leaving and quarantine.
    `kept` is the sum of the bytes that each repository holds alone, the bytes that several share,
    and the bytes that are linked to no repository yet.
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
class Reloaded:
    """The changed keys that are in force, and the changed keys that need a restart."""

    changed: tuple[str, ...]
    restart: tuple[str, ...]
    kind: Literal["reloaded"] = "reloaded"

    def words(self) -> Iterator[str]:
        """Yield a line for each kind of key."""
        if self.changed:
            yield f"changed: {', '.join(self.changed)}"
        if self.restart:
            yield f"needs a restart, and is not in force: {', '.join(self.restart)}"
        if not self.changed and not self.restart:
            yield "nothing has changed"


@dataclass(frozen=True, slots=True)
class Unusable:
    """The configuration cannot be used, and nothing was changed; `reason` says why."""

    reason: str
    kind: Literal["unusable"] = "unusable"


Done = Verified | Collected | Purged | Usage | Budgets | Reloaded
Record = Progress | Damaged | Refused | Unusable | Done
