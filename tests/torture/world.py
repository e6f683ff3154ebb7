"""The world: the images of the plan, and the stand-in hub that has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.standin import Blob, Fault, Hub, Image, Seen, Terms, make_image
from tests.standin.stats import is_body
from tests.torture.plan import FaultPlan, RoundPlan, plan_image

RATE = 40e6  # bytes per second of all bodies: slow enough for kills and cuts in the middle
SLOW = 4e6  # bytes per second of a slow body


class World:
    """The hub with the images of a seed, in files under `folder`. Tag T is `team-T/app:latest`."""

    def __init__(self, seed: int, folder: Path) -> None:
        self._seed = seed
        self._folder = folder
        self._images: dict[int, Image] = {}
        self.blobs: dict[str, Blob] = {}
        self.manifests: dict[str, Image] = {}
        self.hub = Hub(Terms(), rate=RATE)
        self.meant: dict[int, set[str]] = {}  # all digests that a tag ever named

    def turn(self, plan: RoundPlan) -> None:
        """Move the tags, clear the journal, and add the round's faults."""
        for tag, number in enumerate(plan.tags):
            image = self.image(number)
            self.hub.tag(repository(tag), "latest", image)
            self.meant.setdefault(tag, set()).add(image.digest)
        self.hub.journal.clear()
        for fault in plan.faults:
            self.hub.faults.add(self._fault(fault))

    def image(self, number: int) -> Image:
        """Return an image by its number; the first call makes it."""
        if number not in self._images:
            plan = plan_image(self._seed, number)
            base = None if plan.base is None else self.image(plan.base)
            image = make_image(f"{number}", plan.layers, base=base, folder=self._folder)
            self._images[number] = self.manifests[image.digest] = image
            self.blobs |= {blob.digest: blob for blob in image.blobs}
        return self._images[number]

    def sent(self) -> dict[str, int]:
        """Count the bytes of each blob that were sent since the round began."""
        counts: Counter[str] = Counter()
        for seen in filter(is_body, self.hub.requests):
            counts[str(seen.digest)] += seen.bytes_sent
        return counts

    def digest(self, fault: FaultPlan) -> str | None:
        """Return the digest of the blob that a fault is for."""
        return None if fault.blob is None else self._blob(fault).digest

    def _blob(self, fault: FaultPlan) -> Blob:
        blobs = self.image(fault.image).blobs
        return blobs[(fault.blob or 0) % len(blobs)]

    def _fault(self, plan: FaultPlan) -> Fault:
        if plan.trouble == "token":
            return Fault(kind="token", status=503, times=plan.times)
        fault = _FAULTS[plan.trouble](int(plan.at * self._size(plan)))
        if plan.blob is None:
            return replace(fault, kind="manifest", times=plan.times)
        match = _of(self._blob(plan).digest, ranged=plan.trouble == "bad_range")
        return replace(fault, kind="blob", match=match, times=plan.times)

    def _size(self, plan: FaultPlan) -> int:
        return max(self._blob(plan).size - 1, 1)


def repository(tag: int) -> str:
    """Name the repository of a tag."""
    return f"team-{tag}/app"


def _of(digest: str, *, ranged: bool) -> Callable[[Seen], bool]:
    return lambda seen: seen.reference == digest and (not ranged or seen.range is not None)


def denying(status: int) -> Fault:
    """Return a fault that gives every client this status from the token server until removed."""
    return Fault(kind="token", status=status, times=None)


_FAULTS: dict[str, Callable[[int], Fault]] = {
    "cut": lambda at: Fault(cut_after=at),
    "stall": lambda at: Fault(stall_after=at),
    "corrupt": lambda at: Fault(corrupt_at=at),
    "no_range": lambda _: Fault(ignore_range=True),
    "bad_range": lambda at: Fault(status=(400, 403)[at % 2], method="GET"),
    "no_head": lambda at: Fault(status=(403, 405, 500)[at % 3], method="HEAD", port="registry"),
    "content": lambda at: Fault(status=(403, 404, 429, 500)[at % 4]),
    "401": lambda _: Fault(status=401, port="registry"),
    "403": lambda _: Fault(status=403, port="registry"),
    "404": lambda _: Fault(status=404, port="registry"),
    "slow": lambda _: Fault(rate=SLOW),
    "short": lambda at: Fault(short_at=at),
    "429": lambda _: Fault.abuse(retry_after=1),
    "5xx": lambda at: Fault(status=(500, 502, 503, 504)[at % 4], method="GET"),
    "drop": lambda _: Fault(drop=True),
    "hang": lambda _: Fault(hang=True),
    "page": lambda _: Fault.page(),
}
