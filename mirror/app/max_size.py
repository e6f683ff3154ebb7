"""`max_size` in bytes: read from the settings, or a part of the file system."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from mirror.settings import ConfigurationError
from mirror.settings.measures import Bound
from mirror.storage.errors import StorageError
from mirror.storage.store import Store
from mirror.util.units import human

_log = logging.getLogger(__name__)

LOOK_EVERY = 60.0  # seconds


def in_bytes(max_size: Bound, folder: Path) -> int:
    """Return the bound in bytes, for a folder that need not exist yet.

    Raises ConfigurationError.
    """
    if max_size.bytes:
        return max_size.bytes
    try:
        total = shutil.disk_usage(_existing(folder)).total
    except OSError as error:
        raise ConfigurationError(
            f"max_size is '{max_size}', and the file system of {folder} cannot be queried: "
            f"{error.strerror}"
        ) from None
    return max_size.of(total)


def beyond_file_system(max_size: Bound, folder: Path) -> str | None:
    """Return a warning if the bound exceeds the size of the folder's file system."""
    place = _existing(folder)
    total = shutil.disk_usage(place).total
    if not total or max_size.bytes <= total:  # some file systems report no size
        return None
    return (
        f"max_size is '{max_size}': the file system that holds {place} has no more "
        f'than {human(total)} in all, and is full before that; a part of it, such as "80%", '
        "always fits"
    )


def _existing(folder: Path) -> Path:
    # A folder that may not be searched counts as missing, and is no error.
    found = (each for each in (folder, *folder.parents) if os.path.exists(each))  # noqa: PTH110
    return next(found, Path("/"))


async def follow_file_system(max_size: Callable[[], Bound], store: Store) -> None:
    """Keep a bound in per cent up to date, for ever; a bound in bytes never changes.

    `max_size` returns the bound that is configured now.
    """
    while True:
        await asyncio.sleep(LOOK_EVERY)
        if (wanted := max_size()).percent:
            await _adjust(wanted, store)


async def _adjust(wanted: Bound, store: Store) -> None:
    try:
        max_size = await store.run_read(in_bytes, wanted, store.root)
    except (ConfigurationError, StorageError) as error:  # the previous bound is as good as any
        _log.debug("max_size stays %s: %s", human(store.max_size), error)
        return
    if max_size != store.max_size:
        _log.info("the file system has changed: max_size, %s, is %s", wanted, human(max_size))
        store.change_max_size(max_size)
        await store.trim()
