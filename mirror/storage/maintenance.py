"""Maintenance of the store: flushes the index, keeps the bound, repeats failed removals."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from mirror.storage.accounting import Accounting
from mirror.storage.blobs.protocol import BlobStore
from mirror.storage.blobs.threads import DiskThreads
from mirror.storage.catalog import charged
from mirror.storage.data_folder import DataFolder
from mirror.storage.errors import NoRoom, StorageError
from mirror.storage.metadata.protocol import MetadataStore
from mirror.storage.quota import Quota
from mirror.util.cooperative import cooperatively
from mirror.util.units import human

_log = logging.getLogger(__name__)
_USES_EVERY = 60.0  # seconds between writing uses to the index


def overhead_of(
    files: Iterable[tuple[str, int]], log_bytes: int, is_log: Callable[[str], bool]
) -> int:
    """Return the bytes of files other than blobs, as they count towards the bound.

    The log of the index grows and shrinks from moment to moment: it is counted at its largest,
    `log_bytes`.
    """
    return log_bytes + sum(charged(size) for name, size in files if not is_log(name))


class Maintenance:
    """The periodic work of a store; `count_failure` is called for each failure of the disk."""

    def __init__(
        self,
        folder: DataFolder,
        blobs: BlobStore,
        threads: DiskThreads,
        index: MetadataStore,
        accounting: Accounting,
        quota: Quota,
        count_failure: Callable[[], None],
    ) -> None:
        self._folder = folder
        self._blobs = blobs
        self._threads = threads
        self._index = index
        self._accounting = accounting
        self._quota = quota
        self._count_failure = count_failure

    def __repr__(self) -> str:
        return f"<Maintenance of {self._folder.root}>"

    def overhead(self) -> int:
        """Return the bytes of all files other than blobs; see `overhead_of`. Raises OSError."""
        return overhead_of(self._folder.files(), self._index.log_bytes, self._index.is_log)

    async def run(self) -> None:
        """Flush the index, and keep the bound as it grows; runs until cancelled."""
        noted = time.monotonic()
        while True:
            await self._index.due()
            if time.monotonic() > noted + _USES_EVERY:
                await self.note_uses()
                noted = time.monotonic()
            if await self._index.flush():
                await self.trim()
            await self.mend()

    async def note_uses(self) -> None:
        """Date the uses of content, and note those in the index that are due, some at a time."""
        async for _ in cooperatively(iter(self._accounting.uses.date, False), 1):
            pass

    async def note_last_uses(self) -> None:
        """Write all uses of content to the index, some at a time, before a stop."""
        await self.note_uses()
        async for _ in cooperatively(iter(self._accounting.uses.note_last, False), 1):
            pass

    async def trim(self) -> None:
        """Evict until the bound holds, after the index grew or the bound was lowered."""
        try:
            self._accounting.overhead = await self._threads.run(self.overhead)
            self._quota.release(await self._quota.reserve(0))
        except NoRoom:
            accounting = self._accounting
            used, most = human(accounting.used), human(accounting.max_size)
            _log.warning("cannot evict, %s of %s are taken: all of it is in use", used, most)
        except StorageError as error:
            self._count_failure()
            _log.error("cannot evict: %s", error)

    async def mend(self) -> None:
        """Retry failed moves to quarantine, and delete overdue quarantined files."""
        try:
            await self._blobs.probe()
            for digest in list(self._accounting.stuck):
                await self._quota.set_aside(digest)
            overdue = self._accounting.quarantine.overdue(time.time())
            await self._quota.unlink(self._accounting.doom(overdue))
        except StorageError as error:
            _log.debug("the disk still fails: %s", error)
