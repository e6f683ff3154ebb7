"""The quota: a bound in per cent follows the size of its file system."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from mirror.settings import ConfigurationError
from mirror.settings.measures import Bound
from mirror.storage.errors import in_words
from mirror.storage.store import Store
from mirror.util.units import human

_log = logging.getLogger(__name__)

LOOK_EVERY = 60.0  # seconds


async def follow(bound: Callable[[], Bound], store: Store) -> None:
    """Keep a bound in per cent up to date, for ever; a bound in bytes never changes.

    `bound` returns the bound that is configured now.
    """
    while True:
        await asyncio.sleep(LOOK_EVERY)
        if (wanted := bound()).percent:
            await _adjust(wanted, store)


async def _adjust(wanted: Bound, store: Store) -> None:
    try:
        limit = await store.run_read(wanted.of, store.files.root)
    except (ConfigurationError, OSError) as error:  # the previous bound is as good as any
        _log.debug("max_size stays %s: %s", human(store.accounting.max_size), in_words(error))
        return
    if limit != store.accounting.max_size:
        _log.info("the file system has changed: max_size, %s, is %s", wanted, human(limit))
        store.accounting.change(limit)
        await store.trim()
