"""Room within the bound: promised before a byte is written, after what goes for it is unlinked."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from mirror.oci.digest import Digest
from mirror.store.books import Books, Doomed
from mirror.store.catalogue import charged
from mirror.store.disk import Disk
from mirror.store.files import Files
from mirror.store.quarantine import Suspect

_log = logging.getLogger(__name__)


class Room:
    """Takes files from their names, and gives room for others, as the books have it.

    Nobody gets a name while the file that had it before is still being taken from it.
    """

    def __init__(self, books: Books, files: Files, disk: Disk) -> None:
        self._books = books
        self._files = files
        self._disk = disk
        self._doomed: set[Digest] = set()  # off the books, not yet unlinked
        self._fewer_doomed = asyncio.Condition()
        self._publishing: Counter[Digest] = Counter()  # named or about to be, not yet entered

    def __repr__(self) -> str:
        return f"<Room: {self._books.promised} bytes promised, {len(self._doomed)} files leaving>"

    def fits(self, size: int) -> bool:
        """Whether `size` bytes could be promised, if all went that can go."""
        return self._books.fits(size)

    async def reserve(self, size: int, *, sparing: bool = False) -> int:
        """Promise room for `size` bytes, evicting if need be; returns what to give back later.

        With `sparing` nothing goes that was used lately. Raises NoRoomError where the bound leaves
        none, OSError where nothing can be unlinked.
        """
        wanted = charged(size)
        doomed = self._books.make_room(wanted, sparing=sparing)
        self._books.promised += wanted
        try:
            await self.unlink(doomed)
        except BaseException:
            self._books.promised -= wanted
            raise
        return wanted

    def release(self, promised: int) -> None:
        """Give back what `reserve` returned."""
        self._books.promised -= promised

    async def take_partial(self, digest: Digest) -> int:
        """Turn an idle partial, if there is one, into a promise that nobody evicts.

        Returns what to give back later. Raises NoRoomError, OSError.
        """
        await self.unlinked(digest)
        size = self._books.idle_partials.pop(digest, 0)
        try:
            return await self.reserve(size)
        except BaseException:
            if size:
                self._books.idle_partials[digest] = size
            raise

    # Unlinking

    async def unlink(self, doomed: Doomed) -> None:
        """Unlink what is off the books; nobody publishes the same anew before that is done.

        What cannot be unlinked returns to the books, for it still takes its room, and can still
        be served. Raises OSError then.
        """
        if not (doomed.suspects or doomed.partials or doomed.victims):
            return
        names = {*doomed.partials, *doomed.victims}
        self._doomed.update(names)
        try:
            failed = await self._disk.run(self._unlink_now, doomed)
            for digest in failed:
                self._books.put_back(digest, doomed)
        finally:
            await self._no_longer_doomed(names)
        for error in failed.values():
            self._disk.note(error)
            raise error

    def _unlink_now(self, doomed: Doomed) -> dict[Digest, OSError]:
        return (
            self._files.remove_quarantined(doomed.suspects)
            | self._files.remove_partials(doomed.partials)
            | self._files.remove(doomed.victims)
        )

    async def _no_longer_doomed(self, names: set[Digest]) -> None:
        self._doomed.difference_update(names)
        async with self._fewer_doomed:
            self._fewer_doomed.notify_all()

    async def unlinked(self, digest: Digest) -> None:
        """Wait until what was evicted under this name is gone."""
        async with self._fewer_doomed:
            await self._fewer_doomed.wait_for(lambda: digest not in self._doomed)

    async def set_aside(self, digest: Digest) -> None:
        """Move a stuck file into quarantine; one that the disk will not have moved stays stuck."""
        self._doomed.add(digest)
        try:
            size = await self._disk.run(self._files.set_aside, digest)
        except OSError as error:
            _log.error("cannot quarantine %s, will try again: %s", digest, error)
            return
        finally:
            await self._no_longer_doomed({digest})
        self._books.stuck.pop(digest, None)
        if size is not None:
            self._books.quarantine.add(digest, Suspect(size, int(time.time())))

    # Removing

    async def remove(self, digests: Iterable[Digest]) -> int:
        """Remove blobs, whoever reads them: readers keep their open file.

        Returns the bytes that come free, at once or when the last reader ends. Raises OSError.
        """
        catalogue = self._books.catalogue
        before = catalogue.bytes
        doomed = self._books.doom(victims=digests)
        freed = before - catalogue.bytes
        await self.unlink(doomed)
        return freed

    async def remove_partials(self, digests: Iterable[Digest]) -> tuple[int, int]:
        """Remove those of these partials that nobody is fetching; returns how many, and bytes.

        Raises OSError.
        """
        idle = [digest for digest in digests if digest in self._books.idle_partials]
        doomed = self._books.doom(partials=idle)
        await self.unlink(doomed)
        return len(idle), sum(charged(size) for size in doomed.partials.values())

    async def remove_strangers(self, sizes: dict[Digest, int]) -> tuple[int, int]:
        """Remove those of these files, by size in bytes, that are not on the books.

        Returns how many, and bytes. Raises OSError.
        """
        strangers = [
            digest
            for digest in sizes
            if self._books.catalogue.get(digest) is None
            and digest not in self._doomed
            and not self._publishing[digest]
        ]
        self._doomed.update(strangers)
        try:
            failed = await self._disk.run(self._files.remove, strangers)
        finally:
            await self._no_longer_doomed(set(strangers))
        for error in failed.values():
            raise error
        return len(strangers), sum(charged(sizes[digest]) for digest in strangers)

    @contextmanager
    def naming(self, digest: Digest) -> Iterator[None]:
        """Keep a file that gets its name from being taken for a stranger until it is entered."""
        self._publishing[digest] += 1
        try:
            yield
        finally:
            self._publishing[digest] -= 1
            if not self._publishing[digest]:
                del self._publishing[digest]
