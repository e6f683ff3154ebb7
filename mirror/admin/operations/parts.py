"""The parts of the mirror that operations work on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from mirror.access.authorizer import Authorizer
from mirror.admin.absent_pins import AbsentPins
from mirror.admin.import_source import ImportSource
from mirror.admin.messages import Configuration, Examined, Record, Status, Unavailable
from mirror.admin.operations.kept import KeptLists
from mirror.admin.operations.warm_pulls import WarmPulls
from mirror.admin.operations.warm_room import Claims
from mirror.admin.schedule_reports import ScheduleReports
from mirror.budget.budget import Budget
from mirror.budget.demand import Demand
from mirror.content.blobs.fetch_pool import FetchPool
from mirror.content.blobs.service import BlobService
from mirror.content.manifests.resolver import ManifestResolver
from mirror.content.manifests.tags import Tags
from mirror.content.memory_cache import MemoryCache
from mirror.content.warm_figures import WarmFigures
from mirror.oci.digest import Digest
from mirror.statistics.recorder import Recorder
from mirror.storage.catalog import charged
from mirror.storage.graph import View
from mirror.storage.store import Store
from mirror.upstream.client import RegistryClient
from mirror.util.deferred import Deferred
from mirror.util.fair_semaphore import FairSemaphore


@dataclass(frozen=True, slots=True)
class LiveParts:
    """The parts that only a running mirror has.

    `connections` returns the number of clients' connections, `certificate_end` the time at which
    the mirror's certificate ends, in epoch seconds; None without one. `warm_places` are for the
    blobs that all runs of `warm` fetch at a time, `warm_pulls` are their pulls, `warm_claims` all
    blobs that they need, `absent_pins` the pinned tags that upstream does not have any more,
    `schedules` the reports on schedules.
    """

    fetches: FetchPool
    registries: Mapping[str, RegistryClient]
    connections: Callable[[], int]
    certificate_end: Callable[[], float | None]
    access: Authorizer
    manifests: ManifestResolver
    blobs: BlobService
    warm_figures: WarmFigures
    warm_places: FairSemaphore
    warm_pulls: WarmPulls
    warm_claims: Claims
    absent_pins: AbsentPins
    schedules: ScheduleReports


class Whole(Protocol):
    """The running mirror as a whole, for the orders that no part can carry out."""

    async def reload(self) -> Record:
        """Read the configuration again, and apply it; returns Reloaded, Unusable or Refused."""

    async def configuration(self) -> Configuration:
        """Return the configuration in force."""

    async def examine(self, status: Status) -> Examined:
        """Return the findings about the mirror, which has this status; raises Unavailable."""


@dataclass(frozen=True, slots=True)
class OperationParts:
    """The parts of a running mirror, or of a data folder opened for one order.

    `altered` is the content that was found damaged, and was discarded, when the folder was opened.
    `source` is the layout that an import takes content from, None for other orders.
    `lists` are those of earlier orders. `whole` is the running mirror, None until it has started.
    """

    store: Store
    tags: Tags
    memory: MemoryCache
    budget: Budget
    demand: Demand
    recorder: Recorder
    altered: tuple[Digest, ...] = ()
    live: LiveParts | None = None
    source: ImportSource | None = None
    lists: KeptLists = field(default_factory=KeptLists)
    whole: Deferred[Whole] | None = None

    def running(self, what: str) -> LiveParts:
        """Return the parts of a running mirror; raises Unavailable, which names `what` needs it."""
        if self.live is None:
            raise Unavailable(f"{what} needs a running mirror")
        return self.live


async def whole_of(parts: OperationParts, what: str) -> Whole:
    """Return the running mirror as a whole; raises Unavailable, which names `what` needs it."""
    if parts.whole is None:
        raise Unavailable(f"{what} needs a running mirror")
    return await parts.whole.get()


def charged_for(view: View, digests: Iterable[Digest]) -> int:
    """Return the bytes on the disk that stored content takes."""
    entries = (view.get(digest) for digest in digests)
    return sum(charged(entry.size) for entry in entries if entry is not None)
