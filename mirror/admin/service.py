"""Upkeep: an operator's orders on stored content, carried out while requests go on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from pathlib import Path

from mirror.admin.messages import (
    BudgetOrder,
    Collected,
    DuOrder,
    GcOrder,
    OrderError,
    Purged,
    PurgeOrder,
    Record,
    Refused,
    Usage,
    VerifyOrder,
    Work,
)
from mirror.admin.purge import PurgePlan, plan_image, plan_repository
from mirror.admin.usage import measure
from mirror.admin.verify import Verification
from mirror.budget.budget import Budget
from mirror.budget.demand import Demand
from mirror.budget.report import report
from mirror.content.manifests.tags import TagKey, Tags
from mirror.content.memory_cache import MemoryCache
from mirror.oci.digest import Digest
from mirror.oci.errors import RegistryError, shown
from mirror.oci.image_name import ImageName, Target, parse_target
from mirror.oci.names import Repository
from mirror.storage.catalog import Entry, charged
from mirror.storage.files import BlobFiles
from mirror.storage.graph import View
from mirror.storage.store import Store
from mirror.util.cooperative import BATCH, cooperatively
from mirror.util.gc_pause import gc_paused


class AdminService:
    """Carries out orders. Removed content leaves the books, the disk, and memory.

    No response is cut: an open file stays readable, and a fetch stores its blob once proven, even
    if the blob was removed meanwhile. `altered` is the content that was found damaged, and was
    discarded, when the store was opened for the order: the first verify reports it.
    """

    def __init__(
        self,
        store: Store,
        tags: Tags,
        memory: MemoryCache,
        budget: Budget,
        demand: Demand,
        altered: tuple[Digest, ...] = (),
    ) -> None:
        self._store = store
        self._tags = tags
        self._memory = memory
        self._budget = budget
        self._demand = demand
        self._altered = altered

    def __repr__(self) -> str:
        return f"<AdminService of {self._store!r}>"

    async def carry_out(self, order: Work) -> AsyncGenerator[Record, None]:
        """Yield progress, and finally the result; an order that fails ends in Refused."""
        try:
            if isinstance(order, VerifyOrder):
                run = Verification(self._store, self._memory, order, self._altered).run()
                async with aclosing(run) as records:
                    async for record in records:
                        yield record
            else:
                yield await self._result(order)
        except OrderError as error:
            yield Refused(str(error))
        except OSError as error:
            yield Refused(f"the data folder {self._store.files.root} fails: {error.strerror}")

    async def _result(self, order: GcOrder | PurgeOrder | DuOrder | BudgetOrder) -> Record:
        if isinstance(order, GcOrder):
            return await (self.collectable() if order.dry else self.collect())
        if isinstance(order, PurgeOrder):
            return await self.purge(order.target, dry=order.dry)
        if isinstance(order, BudgetOrder):
            self._demand.tick()
            return await report(self._budget, self._demand)
        return await self.measure()

    async def measure(self) -> Usage:
        """Report the use of the disk."""
        return await measure(self._store, self._tags)

    # Removing useless files and rows

    async def collect(self) -> Collected:
        """Remove partials without a fetch, files without a row, and rows without their file.

        Then evict until the quota holds. Raises OSError.
        """
        store, before = self._store, self._store.catalog.view()
        lost, unknown = await store.run_read(gc_paused()(_compared), store.files, before)
        rows = 0
        for digest, entry in lost.items():
            rows += await self._discard_lost(digest, entry)
        partials, partial_bytes = await store.quota.remove_partials(
            list(store.accounting.idle_partials)
        )
        orphans, orphan_bytes = await store.quota.remove_orphans(unknown)
        evicted, evicted_bytes = store.accounting.evicted, store.accounting.evicted_bytes
        await store.trim()
        freed = partial_bytes + orphan_bytes + store.accounting.evicted_bytes - evicted_bytes
        return Collected(partials, orphans, rows, store.accounting.evicted - evicted, freed)

    async def collectable(self) -> Collected:
        """Report the files and rows that `collect` would remove."""
        store, before = self._store, self._store.catalog.view()
        lost, unknown = await store.run_read(gc_paused()(_compared), store.files, before)
        partials = [charged(size) for size in store.accounting.idle_partials.values()]
        orphans = [
            charged(size) for digest, size in unknown.items() if store.catalog.get(digest) is None
        ]
        store.accounting.overhead = await store.run_read(store.files.index_bytes)
        gone = [charged(entry.size) for entry in lost.values()]
        evicted = store.accounting.would_evict(sum(partials) + sum(gone))
        victims = [charged(entry.size) for each in evicted if (entry := before.get(each))]
        freed = sum(partials) + sum(orphans) + sum(victims)
        counts = len(partials), len(orphans), len(lost), len(victims)
        return Collected(*counts, freed, dry=True)

    async def _discard_lost(self, digest: Digest, entry: Entry) -> bool:
        """Discard a row without its file, if the file is still missing: it may have been refetched.

        The file is checked once more, and nothing runs between that check and the removal.
        """
        store = self._store
        size = await store.run_read(_size_of, store.files.path(digest))
        if size == entry.size or store.catalog.get(digest) is not entry:
            return False
        self._memory.drop(digest)
        await store.discard(digest)
        return True

    # Removing named content

    async def purge(self, text: str, *, dry: bool = False) -> Purged:
        """Remove an image, a repository or content; raises UpkeepError, OSError.

        A `dry` purge only reports.
        """
        target = await self._store.run_read(self._target, text, self._tags.names())
        if isinstance(target, Digest):
            return await self._purge_digest(target, dry=dry)
        plan = await self._plan(target)
        if plan is None:
            raise OrderError(f"nothing of {shown(str(target))} is stored")
        if dry:
            counts = len(plan.tags), len(plan.gone), plan.shared
            return Purged(str(target), *counts, self._charged(plan.gone), dry=True)
        return await self._carry(target, plan)

    def _target(self, text: str, names: list[TagKey]) -> Target:
        """Parse the operator's target. For a thread: it goes through 100,000 tags."""
        upstreams = self._store.catalog.upstreams()
        upstreams.update(repository.upstream for (repository, _) in names)
        try:
            return parse_target(text, upstreams)
        except RegistryError as error:
            raise OrderError(error.message) from None

    async def _purge_digest(self, digest: Digest, *, dry: bool) -> Purged:
        """Remove content by its digest, even if an image needs it: the next request fetches it."""
        if dry:
            return self._purgeable_digest(digest)
        partials, partial_bytes = await self._store.quota.remove_partials([digest])
        kept = self._store.catalog.get(digest) is not None
        if not kept and not partials:
            raise OrderError(f"nothing of {digest} is stored")
        freed = await self._remove([digest])
        return Purged(str(digest), 0, int(kept) + partials, 0, freed + partial_bytes)

    def _purgeable_digest(self, digest: Digest) -> Purged:
        partial = self._store.accounting.idle_partials.get(digest)
        kept = self._store.catalog.get(digest) is not None
        files = int(kept) + int(partial is not None)
        if not files:
            raise OrderError(f"nothing of {digest} is stored")
        freed = self._charged([digest]) + (0 if partial is None else charged(partial))
        return Purged(str(digest), 0, files, 0, freed, dry=True)

    def _charged(self, digests: Iterable[Digest]) -> int:
        """Return the bytes that removing content would free."""
        entries = (self._store.catalog.get(digest) for digest in digests)
        return sum(charged(entry.size) for entry in entries if entry is not None)

    async def _plan(self, target: ImageName | Repository) -> PurgePlan | None:
        """Plan a purge, on a thread; `None` if nothing of the target is stored."""
        view, known = self._store.catalog.view(), self._tags.known()
        if isinstance(target, ImageName):
            return await self._store.run_read(gc_paused()(plan_image), view, known, target)
        return await self._store.run_read(gc_paused()(plan_repository), view, known, target)

    async def _carry(self, target: ImageName | Repository, plan: PurgePlan) -> Purged:
        """Carry out a plan; content that manifests stored meanwhile need is spared."""
        here = target.repository if isinstance(target, ImageName) else target
        spared = await self._needed_since(plan)
        gone = plan.gone - spared
        async for digest in cooperatively(plan.unlinked):
            self._store.accounting.unlink(digest, here)
        async for key in cooperatively(plan.tags):
            self._tags.drop(key)
        freed = await self._remove(gone)
        shared = plan.shared + len(spared & plan.gone)
        return Purged(str(target), len(plan.tags), len(gone), shared, freed)

    async def _needed_since(self, plan: PurgePlan) -> set[Digest]:
        view = self._store.catalog.view()
        return await self._store.run_read(
            lambda: view.reach(each for each in view.manifests if each not in plan.seen)
        )

    async def _remove(self, digests: Iterable[Digest]) -> int:
        """Remove content; returns the freed bytes. Raises OSError."""
        ahead, freed = list(digests), 0
        for start in range(0, len(ahead), BATCH):
            part = ahead[start : start + BATCH]
            for digest in part:
                self._memory.drop(digest)
            freed += await self._store.quota.remove(part)
        return freed


def _compared(files: BlobFiles, before: View) -> tuple[dict[Digest, Entry], dict[Digest, int]]:
    """Find rows that differ from their file, and files without a row, with their size in bytes.

    Content that was there before the scan, and is unchanged after it, should have been found.
    """
    entries = dict(before.entries())
    found = {each.digest: each.size for each in files.scan()}
    lost = {digest: entry for digest, entry in entries.items() if found.get(digest) != entry.size}
    return lost, {digest: size for digest, size in found.items() if before.get(digest) is None}


def _size_of(path: Path) -> int | None:
    """Return the size of a file in bytes; `None` if there is no file. Raises OSError."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
