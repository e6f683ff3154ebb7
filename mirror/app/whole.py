"""The running mirror as a whole: its reload, its configuration, and its examination from within."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from mirror.admin.messages import (
    Configuration,
    ConfiguredKey,
    Examined,
    Finding,
    OrderError,
    Record,
    Refused,
    Reloaded,
    Status,
    Unavailable,
    Unusable,
)
from mirror.app.configuration import shown_rows
from mirror.app.doctor.examination import examine
from mirror.app.reload import Reloader, ReloadRefused
from mirror.app.trial import Trial, tried
from mirror.settings import ConfigurationError, Loaded, Settings
from mirror.util.detached import DetachedThreads
from mirror.util.singleflight import SingleFlight

_PATIENCE = 60.0  # seconds for all checks: upstreams and disks may hang


class WholeMirror:
    """Carries out the orders that no part of a mirror can; `read` reads the settings again.

    One examination runs at a time, on a separate thread, for which no stop waits. The upstreams are
    tried on the event loop meanwhile.
    """

    def __init__(self, reloader: Reloader, read: Callable[[], Loaded]) -> None:
        self._reloader = reloader
        self._read = read
        self._thread = DetachedThreads(1, "doctor")
        self._examinations: SingleFlight[None, Examined] = SingleFlight()
        self._trials: SingleFlight[None, list[Trial]] = SingleFlight()

    def __repr__(self) -> str:
        return f"<WholeMirror: {self._reloader!r}, {len(self._examinations)} examinations>"

    async def close(self) -> None:
        """Stop a running examination, and begin no more."""
        self._thread.close()
        await self._examinations.close()
        await self._trials.close()

    async def reload(self) -> Record:
        """Read the configuration again, and apply it; returns Reloaded, Unusable or Refused."""
        try:
            applied = await self._reloader.reload()
        except ConfigurationError as error:
            return Unusable(str(error))
        except ReloadRefused as error:
            return Refused(str(error), "unavailable")
        return Reloaded(*applied)

    async def configuration(self) -> Configuration:
        """Return the configuration in force; raises OrderError."""
        reloader = self._reloader
        try:
            rows = [*shown_rows(reloader.origins, reloader.settings)]
        except ConfigurationError as error:
            raise OrderError(str(error)) from None
        return Configuration(
            tuple(
                ConfiguredKey(
                    row.key,
                    tuple(map(str, row.value)) if isinstance(row.value, list) else row.value,
                    row.place,
                )
                for row in rows
            )
        )

    async def examine(self, status: Status) -> Examined:
        """Return the findings about the mirror, which has this status; raises Unavailable."""
        return await self._examinations.join(None, partial(self._examine, status))

    async def _examine(self, status: Status) -> Examined:
        loop = asyncio.get_running_loop()
        checks = self._thread.submit(partial(self._findings, loop, status))
        try:
            async with asyncio.timeout(_PATIENCE):
                return Examined(await asyncio.wrap_future(checks))
        except TimeoutError:
            raise Unavailable(f"the checks took longer than {_PATIENCE:g} s") from None

    def _findings(self, loop: asyncio.AbstractEventLoop, status: Status) -> tuple[Finding, ...]:
        """Examine the mirror, for a thread."""

        def trials(settings: Settings) -> list[Trial]:
            return asyncio.run_coroutine_threadsafe(self._tried(settings), loop).result()

        return tuple(examine(self._read(), lambda _: status, trials))

    async def _tried(self, settings: Settings) -> list[Trial]:
        return await self._trials.join(None, partial(tried, settings))
