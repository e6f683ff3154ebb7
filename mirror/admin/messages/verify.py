"""`verify`: the order and its records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass as checked

from mirror.admin.messages.common import STRICT, Positive, dry_run


@checked(frozen=True, config=STRICT)
class VerifyOrder:
    """Hash stored content: all, `percent` of it or `count` blobs; at most `rate` bytes a second.

    A `dry` order reports damage and removes nothing.
    """

    percent: Annotated[float, Field(gt=0, le=100)] | None = None
    count: Positive | None = None
    rate: Positive | None = None
    dry: bool = False
    kind: Literal["verify"] = "verify"

    def __str__(self) -> str:
        """Return the order as the operator types it."""
        share = "" if self.percent is None else f" --sample {self.percent:g}%"
        count = "" if self.count is None else f" --sample {self.count}"
        rate = "" if self.rate is None else f" --rate {self.rate}"
        return f"verify{share}{count}{rate}{dry_run(self.dry)}"


@dataclass(frozen=True, slots=True)
class DamagedBlob:
    """A damaged blob, and the reason."""

    digest: str
    reason: str
    kind: Literal["wrong"] = "wrong"


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
