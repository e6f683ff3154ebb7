"""The parts of the mirror that operations work on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mirror.budget.budget import Budget
from mirror.budget.demand import Demand
from mirror.content.manifests.tags import Tags
from mirror.content.memory_cache import MemoryCache
from mirror.oci.digest import Digest
from mirror.storage.catalog import charged
from mirror.storage.graph import View
from mirror.storage.store import Store


@dataclass(frozen=True, slots=True)
class OperationParts:
    """The parts of a running mirror, or of a data folder opened for one order.

    `altered` is the content that was found damaged, and was discarded, when the folder was opened.
    """

    store: Store
    tags: Tags
    memory: MemoryCache
    budget: Budget
    demand: Demand
    altered: tuple[Digest, ...] = ()


def charged_for(view: View, digests: Iterable[Digest]) -> int:
    """Return the bytes on the disk that stored content takes."""
    entries = (view.get(digest) for digest in digests)
    return sum(charged(entry.size) for entry in entries if entry is not None)
