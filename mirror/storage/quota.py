"""Disk space within the bound: reserved before a write, after unlinking evicted files."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

from mirror.oci.digest import Digest
from mirror.storage.accounting import Books, Doomed
from mirror.storage.catalog import charged
from mirror.storage.disk_threads import Disk
from mirror.storage.errors import in_words
from mirror.storage.files import Files
from mirror.storage.name_locks import Names
from mirror.storage.quarantine import Suspect
from mirror.util.uncancelled import to_the_end
from mirror.util.units import human

_log = logging.getLogger(__name__)


class Room:
    """Deletes files and reserves space, according to the books.

    A digest cannot be published while its previous file is being deleted. An operation that has
    begun runs to its end, even if the caller is cancelled.
    """

    def __init__(self, books: Books, files: Files, disk: Disk) -> None:
        self._books = books
        self._files = files
        self._disk = disk
        self._names = Names()
        self._doomed: Counter[Digest] = Counter()  # partials off the books, not yet unlinked
        self._progress = asyncio.Condition()

    def __repr__(self) -> str:
        books = self._books
        return f"<Room: {books.promised} bytes promised, {books.going} leaving, {self._names!r}>"

    def fits(self, size: int) -> bool:
        """Whether `size` bytes could be reserved by evicting everything that may be evicted."""
        return self._books.fits(size)

    async def reserve(self, size: int, *, gains: str | None = None) -> int:
        """Reserve room for `size` bytes, evicting if needed; returns the amount to release later.

        With `gains`, the upstream that the room is for, recently used content of other upstreams is
        not evicted. Raises NoRoomError if the bound leaves no room, OSError if nothing can be
        unlinked.
        """
        wanted = charged(size)
        doomed = self._books.make_room(wanted, gains=gains)
        if doomed and _log.isEnabledFor(logging.DEBUG):
            _log.debug("room for %s: %s go", human(wanted), doomed.told)
        self._books.promised += wanted
        try:
            await self.unlink(doomed)
            while doomed.more:
                doomed = self._books.make_room(0, gains=gains)
                await self.unlink(doomed)
            while self._books.used > self._books.limit:
                await self._until_it_fits(gains=gains)
        except BaseException:
            self._books.promised -= wanted
            raise
        return wanted

    async def _until_it_fits(self, *, gains: str | None) -> None:
        """Wait for unlinks in progress, or evict more if they have failed."""
        if not self._books.going:
            await self.unlink(self._books.make_room(0, gains=gains))
            return
        async with self._progress:
            await self._progress.wait()

    def release(self, promised: int) -> None:
        """Release an amount that `reserve` returned."""
        self._books.promised -= promised

    async def take_partial(self, digest: Digest) -> int:
        """Turn an idle partial, if there is one, into a reservation, which cannot be evicted.

        Returns the amount to release later. Raises NoRoomError, OSError.
        """
        while self._doomed[digest]:  # being evicted as idle
            async with self._progress:
                await self._progress.wait()
        size = self._books.idle_partials.pop(digest, 0)
        try:
            return await self.reserve(size)
        except BaseException:
            if size:
                self._books.idle_partials[digest] = size
            raise

    # Unlinking

    async def unlink(self, doomed: Doomed) -> None:
        """Unlink files taken off the books; they count until they are unlinked.

        A file that was published again meanwhile stays: that is checked under the lock. A file that
        cannot be unlinked returns to the books: it still takes room, and can still be served.
        Raises OSError then.
        """
        if not doomed:
            return
        self._doomed.update(doomed.partials.keys())
        await to_the_end(self._unlink(doomed))

    async def _unlink(self, doomed: Doomed) -> None:
        failed: dict[Digest, OSError] = {}
        async with self._names.held([*doomed.suspects, *doomed.partials, *doomed.victims]):
            still = self._still(doomed)
            try:
                failed = await self._disk.run(self._unlink_now, still)
            except OSError:  # the call was not started
                for digest in {*still.suspects, *still.partials, *still.victims}:
                    self._books.put_back(digest, still)
                raise
            finally:
                self._books.going -= doomed.bytes
                for digest in failed:
                    self._books.put_back(digest, still)
                self._doomed.subtract(doomed.partials.keys())
                self._doomed += Counter()  # drop zero counts
                await self._tell()
        for error in failed.values():
            self._disk.note(error)
            raise error

    def _still(self, doomed: Doomed) -> Doomed:
        """Return the files that are still off the books."""
        books = self._books
        suspects = {
            each: it for each, it in doomed.suspects.items() if each not in books.quarantine
        }
        victims = {
            each: entry
            for each, entry in doomed.victims.items()
            if books.catalogue.get(each) is None and each not in books.stuck
        }
        return doomed._replace(suspects=suspects, victims=victims)

    def _unlink_now(self, doomed: Doomed) -> dict[Digest, OSError]:
        return (
            self._files.remove_quarantined(doomed.suspects)
            | self._files.remove_partials(doomed.partials)
            | self._files.remove(doomed.victims)
        )

    async def _tell(self) -> None:
        async with self._progress:
            self._progress.notify_all()

    async def set_aside(self, digest: Digest) -> None:
        """Move a stuck file into quarantine; if the disk fails, it stays stuck.

        A file that was published since is not stuck any more, and stays.
        """
        await to_the_end(self._set_aside(digest))

    async def _set_aside(self, digest: Digest) -> None:
        async with self._names.held([digest]):
            if digest not in self._books.stuck:
                return
            try:
                size = await self._disk.run(self._files.set_aside, digest)
            except OSError as error:
                _log.error("cannot quarantine %s, will try again: %s", digest, in_words(error))
                return
            self._books.stuck.pop(digest, None)
            if size is not None:
                self._books.quarantine.add(digest, Suspect(size, int(time.time())))

    # Removing

    async def remove(self, digests: Iterable[Digest]) -> int:
        """Remove blobs, even while they are read: readers keep their open file.

        Returns the bytes that are freed, now or when the last reader ends. Raises OSError.
        """
        catalogue = self._books.catalogue
        before = catalogue.bytes
        doomed = self._books.doom(victims=digests)
        freed = before - catalogue.bytes
        await self.unlink(doomed)
        return freed

    async def remove_partials(self, digests: Iterable[Digest]) -> tuple[int, int]:
        """Remove the idle ones of these partials; returns their number and bytes.

        Raises OSError.
        """
        idle = [digest for digest in digests if digest in self._books.idle_partials]
        doomed = self._books.doom(partials=idle)
        await self.unlink(doomed)
        return len(idle), sum(charged(size) for size in doomed.partials.values())

    async def remove_strangers(self, sizes: dict[Digest, int]) -> tuple[int, int]:
        """Remove the files, given by size in bytes, that are not on the books.

        Returns their number and bytes. Raises OSError.
        """
        return await to_the_end(self._remove_strangers(sizes))

    async def _remove_strangers(self, sizes: dict[Digest, int]) -> tuple[int, int]:
        known = self._books.catalogue
        found = [digest for digest in sizes if known.get(digest) is None]
        async with self._names.held(found):
            strangers = [digest for digest in found if known.get(digest) is None]
            failed = await self._disk.run(self._files.remove, strangers)
        for error in failed.values():
            raise error
        return len(strangers), sum(charged(sizes[digest]) for digest in strangers)

    def naming(self, digest: Digest) -> AbstractAsyncContextManager[None]:
        """Hold the lock of a digest while its file is published and entered, or removed."""
        return self._names.held([digest])
