"""The quota: disk space is reserved before a write, after unlinking evicted files."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

from mirror.oci.digest import Digest
from mirror.storage.accounting import Accounting
from mirror.storage.blobs.protocol import BlobStore
from mirror.storage.catalog import charged
from mirror.storage.errors import StorageError
from mirror.storage.name_locks import NameLocks
from mirror.storage.quarantine import Suspect
from mirror.storage.space import Doomed
from mirror.util.notifier import Notifier
from mirror.util.uncancelled import run_to_completion
from mirror.util.units import human

_log = logging.getLogger(__name__)


class Quota:
    """Deletes files and reserves space, by the accounting.

    A digest cannot be published while its previous file is being deleted. An operation that has
    begun runs to its end, even if the caller is cancelled.
    """

    def __init__(self, accounting: Accounting, blobs: BlobStore) -> None:
        self._accounting = accounting
        self._blobs = blobs
        self._name_locks = NameLocks()
        self._doomed: Counter[Digest] = Counter()  # partials taken out, but not yet unlinked
        self._progress = Notifier()

    def __repr__(self) -> str:
        accounting = self._accounting
        promised, leaving = accounting.promised, accounting.going
        return f"<Quota: {promised} bytes promised, {leaving} leaving, {self._name_locks!r}>"

    def fits(self, size: int) -> bool:
        """Whether `size` bytes could be reserved by evicting everything that may be evicted."""
        return self._accounting.fits(size)

    async def reserve(self, size: int, *, gains: str | None = None) -> int:
        """Reserve room for `size` bytes, evicting if needed; returns the amount to release later.

        With `gains`, the upstream that the room is for, recently used content of other upstreams is
        not evicted. Raises NoRoom if the bound leaves no room, StorageError if nothing can
        be unlinked.
        """
        wanted = charged(size)
        doomed = self._accounting.make_room(wanted, gains=gains)
        if doomed and _log.isEnabledFor(logging.DEBUG):
            _log.debug("room for %s: %s go", human(wanted), doomed.told)
        self._accounting.promised += wanted
        try:
            await self.unlink(doomed)
            while doomed.more:
                doomed = self._accounting.make_room(0, gains=gains)
                await self.unlink(doomed)
            while self._accounting.used > self._accounting.max_size:
                await self._until_it_fits(gains=gains)
        except BaseException:
            self._accounting.promised -= wanted
            raise
        return wanted

    async def _until_it_fits(self, *, gains: str | None) -> None:
        """Wait for unlinks in progress, or evict more if they have failed."""
        if not self._accounting.going:
            await self.unlink(self._accounting.make_room(0, gains=gains))
            return
        await self._progress.changed()

    def release(self, promised: int) -> None:
        """Release an amount that `reserve` returned."""
        self._accounting.promised -= promised

    async def take_partial(self, digest: Digest) -> int:
        """Turn an idle partial, if there is one, into a reservation, which cannot be evicted.

        Returns the amount to release later. Raises NoRoom, StorageError.
        """
        while self._doomed[digest]:  # being evicted as idle
            await self._progress.changed()
        size = self._accounting.idle_partials.pop(digest, 0)
        try:
            return await self.reserve(size)
        except BaseException:
            if size:
                self._accounting.idle_partials[digest] = size
            raise

    # Unlinking

    async def unlink(self, doomed: Doomed) -> None:
        """Unlink files taken out of the accounting; they count until they are unlinked.

        A file that was published again meanwhile stays: that is checked under the lock. A file that
        cannot be unlinked returns to the accounting: it still takes room, and can still be served.
        Raises StorageError then.
        """
        if not doomed:
            return
        self._doomed.update(doomed.partials.keys())
        await run_to_completion(self._unlink(doomed))

    async def _unlink(self, doomed: Doomed) -> None:
        failed: dict[Digest, StorageError] = {}
        async with self._name_locks.held([*doomed.suspects, *doomed.partials, *doomed.victims]):
            still = self._still(doomed)
            try:
                failed = await self._blobs.delete(still.victims, still.partials, still.suspects)
            except StorageError:  # the call was not started
                for digest in {*still.suspects, *still.partials, *still.victims}:
                    self._accounting.put_back(digest, still)
                raise
            finally:
                self._accounting.going -= doomed.bytes
                for digest in failed:
                    self._accounting.put_back(digest, still)
                self._doomed.subtract(doomed.partials.keys())
                self._doomed += Counter()  # drop zero counts
                self._progress.notify()
        for error in failed.values():
            raise error

    def _still(self, doomed: Doomed) -> Doomed:
        """Return the files that are out of the accounting, and not unlinked yet."""
        accounting = self._accounting
        suspects = {
            each: it for each, it in doomed.suspects.items() if each not in accounting.quarantine
        }
        victims = {
            each: entry
            for each, entry in doomed.victims.items()
            if accounting.catalog.get(each) is None and each not in accounting.stuck
        }
        return doomed._replace(suspects=suspects, victims=victims)

    async def set_aside(self, digest: Digest) -> None:
        """Move a stuck file into quarantine; if the disk fails, it stays stuck.

        A file that was published since is not stuck any more, and stays.
        """
        await run_to_completion(self._set_aside(digest))

    async def _set_aside(self, digest: Digest) -> None:
        async with self._name_locks.held([digest]):
            if digest not in self._accounting.stuck:
                return
            try:
                size = await self._blobs.quarantine(digest)
            except StorageError as error:
                _log.error("cannot quarantine %s, will try again: %s", digest, error)
                return
            self._accounting.stuck.pop(digest, None)
            if size is not None:
                self._accounting.quarantine.add(digest, Suspect(size, int(time.time())))

    # Removing

    async def remove(self, digests: Iterable[Digest]) -> int:
        """Remove blobs, even while they are read: readers keep their open file.

        Returns the bytes that are freed, now or when the last reader ends. Raises StorageError.
        """
        catalog = self._accounting.catalog
        before = catalog.bytes
        doomed = self._accounting.doom(victims=digests)
        freed = before - catalog.bytes
        await self.unlink(doomed)
        return freed

    async def remove_partials(self, digests: Iterable[Digest]) -> tuple[int, int]:
        """Remove the idle ones of these partials; returns their number and bytes.

        Raises StorageError.
        """
        idle = [digest for digest in digests if digest in self._accounting.idle_partials]
        doomed = self._accounting.doom(partials=idle)
        await self.unlink(doomed)
        return len(idle), sum(charged(size) for size in doomed.partials.values())

    async def remove_orphans(self, sizes: dict[Digest, int]) -> tuple[int, int]:
        """Remove the files, given by size in bytes, that are not in the accounting.

        Returns their number and bytes. Raises StorageError.
        """
        return await run_to_completion(self._remove_orphans(sizes))

    async def _remove_orphans(self, sizes: dict[Digest, int]) -> tuple[int, int]:
        known = self._accounting.catalog
        found = [digest for digest in sizes if known.get(digest) is None]
        async with self._name_locks.held(found):
            orphans = [digest for digest in found if known.get(digest) is None]
            failed = await self._blobs.delete(orphans)
        for error in failed.values():
            raise error
        return len(orphans), sum(charged(sizes[digest]) for digest in orphans)

    def naming(self, digest: Digest) -> AbstractAsyncContextManager[None]:
        """Hold the lock of a digest while its file is published and entered, or removed."""
        return self._name_locks.held([digest])
