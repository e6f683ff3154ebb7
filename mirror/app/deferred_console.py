"""The console of a mirror that may never be looked at: loaded by the first request for it."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from aiohttp import web

from mirror.admin.service import AdminService
from mirror.console.metrics import Activity, ConsoleFigures
from mirror.oci.errors import RegistryError
from mirror.settings import Settings
from mirror.util.deferred import Deferred
from mirror.web.auth.authenticator import Authenticator
from mirror.web.error_reply import refusal
from mirror.web.reply import Reply
from mirror.web.router import ConsolePath

if TYPE_CHECKING:
    from mirror.app.build_console import ConsoleBuilder
    from mirror.console.console import Console

_log = logging.getLogger(__name__)


class DeferredConsole:
    """Answers for the page and the API, by a console that a thread loads for the first request.

    Its modules and templates would take 0.3 s of CPU of each start, and some megabytes.
    """

    def __init__(
        self, settings: Settings, authenticator: Authenticator, service: AdminService
    ) -> None:
        self._settings = settings
        self._authenticator = authenticator
        self._service = service
        self._started = time.time()
        self._console: Console | None = None
        self._builder = Deferred(_builder)
        self._stops = False

    def __repr__(self) -> str:
        return f"<DeferredConsole: {self._console!r}>"

    @property
    def figures(self) -> ConsoleFigures:
        """The metrics, which are there before the first request."""
        return ConsoleFigures(lambda: self._console.activity if self._console else Activity())

    async def answer(self, request: web.BaseRequest, path: ConsolePath) -> Reply:
        """Answer a request of any method; errors are answers, too."""
        console = self._console
        if console is None:
            try:
                console = await self._load()
            except Exception:  # noqa: BLE001 - logged: the next request tries again
                _log.exception("the page and the API cannot be loaded")
                return refusal(RegistryError("the mirror failed; its log has the reason"))
        return await console.answer(request, path)

    async def _load(self) -> Console:
        builder = await self._builder.get()
        if self._console is None:
            self._console = builder.build(
                self._settings, self._authenticator, self._service, started=self._started
            )
            if self._stops:
                await self._console.stop()
        return self._console

    def change(self, settings: Settings) -> None:
        """Apply other settings, after a reload."""
        self._settings = settings
        if self._console is not None:
            from mirror.app.build_console import change_console

            change_console(self._console, settings)

    async def stop(self) -> None:
        """End the streams of events, before the listener waits for running answers."""
        self._stops = True
        if self._console is not None:
            await self._console.stop()

    async def close(self) -> None:
        """Stop running questions."""
        await self._builder.close()
        if self._console is not None:
            await self._console.close()


def _builder() -> ConsoleBuilder:
    """Load all modules of the console, and compile its templates: 0.3 s of work for a thread."""
    from mirror.app.build_console import ConsoleBuilder

    return ConsoleBuilder()
