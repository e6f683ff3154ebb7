"""`warm`: the order and its records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass as checked

from mirror.admin.messages.common import STRICT, dry_run
from mirror.oci.errors import shown

MOST_IMAGES = 10_000  # of one order
MOST_PLATFORMS = 32  # of one order
LONGEST_PLATFORM = 100  # characters

_Image = Annotated[str, Field(min_length=1, max_length=600)]
_Platform = Annotated[str, Field(min_length=1, max_length=LONGEST_PLATFORM)]


@checked(frozen=True, config=STRICT)
class ImageFor:
    """An image for one platform, in place of the platforms of the order."""

    image: _Image
    platform: _Platform


@checked(frozen=True, config=STRICT)
class WarmOrder:
    """Store images before clients request them, as if a client had pulled them.

    Without `platforms`, the platforms that clients request are stored. No pull is spent that
    would leave fewer than `leave` of an upstream's limit. A `dry` order only reports the cost.
    """

    images: Annotated[tuple[_Image | ImageFor, ...], Field(min_length=1, max_length=MOST_IMAGES)]
    platforms: Annotated[tuple[_Platform, ...], Field(max_length=MOST_PLATFORMS)] = ()
    leave: Annotated[int, Field(ge=0, le=10**9)] | None = None
    dry: bool = False
    kind: Literal["warm"] = "warm"

    def __str__(self) -> str:
        """Return the order as the operator types it, with one image at most."""
        [first, *others] = self.images
        name = shown(first if isinstance(first, str) else first.image)
        more = f" and {len(others)} more" if others else ""
        platforms = "".join(f" --platform {shown(each)}" for each in self.platforms)
        leave = "" if self.leave is None else f" --leave {self.leave}"
        return f"warm {name}{more}{platforms}{leave}{dry_run(self.dry)}"


@dataclass(frozen=True, slots=True)
class WarmPlan:
    """The number of images, and the platforms to store.

    The platforms were `given`, or `clients` requested them; else it is that of the `machine`.
    """

    images: int
    platforms: tuple[str, ...]
    chosen_by: Literal["given", "clients", "machine"]
    kind: Literal["warm_plan"] = "warm_plan"


@dataclass(frozen=True, slots=True)
class WarmingImage:
    """An image under way: the bytes that have arrived, of the missing ones."""

    image: str
    bytes: int
    all_bytes: int


@dataclass(frozen=True, slots=True)
class WarmProgress:
    """Progress: images that are done, and failed among them, pulls spent, and bytes arrived.

    `all_bytes` are the missing bytes that are known so far.
    """

    images: int
    all_images: int
    failed: int
    pulls: int
    bytes: int
    all_bytes: int
    running: tuple[WarmingImage, ...]
    kind: Literal["warm_progress"] = "warm_progress"


@dataclass(frozen=True, slots=True)
class WarmedImage:
    """An image that is stored, or failed for a reason. `bytes` were missing, `pulls` were spent.

    After a `dry` order these are the bytes and pulls that it would cost, as far as they are known:
    the bytes of a manifest that is not stored are `unknown`.
    """

    image: str
    digest: str | None
    platforms: tuple[str, ...]
    pulls: int
    bytes: int
    unknown: bool
    failure: str | None
    kind: Literal["warmed_image"] = "warmed_image"


@dataclass(frozen=True, slots=True)
class PullsLeft:
    """The pulls that are left of an upstream's limit after a run."""

    upstream: str
    pulls: int


@dataclass(frozen=True, slots=True)
class Warmed:
    """The result: all images in their order, and the sums of their costs.

    `leave` is that of the order; `pulls_left` has the upstreams of its images that have a limit.
    `needed` are the bytes of `max_size` for the images that fit, of the `room` for them.
    """

    images: tuple[WarmedImage, ...]
    platforms: tuple[str, ...]
    chosen_by: Literal["given", "clients", "machine"]
    failed: int
    pulls: int
    bytes: int
    unknown: bool
    seconds: float
    dry: bool
    leave: int | None = None
    pulls_left: tuple[PullsLeft, ...] = ()
    needed: int = 0
    room: int = 0
    kind: Literal["warmed"] = "warmed"
