"""The limit poller: asks, by requests that upstream does not count, how many pulls are left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Protocol

from mirror.budget.budget import CHECKED, Budget
from mirror.oci.errors import RegistryError
from mirror.oci.names import Reference, Tag
from mirror.upstream.telemetry import Observer

_log = logging.getLogger(__name__)

_LATEST = Tag("latest")
_WHILE_SHUT = 10.0  # seconds between checks while no pull is left
_LOOK = 1.0  # seconds between looks whether a check is due


class LimitSource(Protocol):
    """An upstream that answers a HEAD, with its rate limit in the headers."""

    async def hint(
        self, name: str, reference: Reference, observe: Observer, *, insist: bool = False
    ) -> object:
        """Ask for a manifest's descriptor; `observe` gets the response. Raises RegistryError."""


class LimitPoller:
    """Keeps the reported limit fresh where there is a repository made for checks.

    `limit_check` is how old it may get, in seconds; 0 for no checks. While the gate is shut they
    are more frequent: upstream does not announce it when the pulls of others come back.
    """

    def __init__(
        self, sources: Mapping[str, LimitSource], budget: Budget, limit_check: float
    ) -> None:
        self._sources = sources
        self._budget = budget
        self.limit_check = limit_check
        self._asked: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<LimitPoller of {', '.join(self._checked()) or 'none'}>"

    def _checked(self) -> list[str]:
        return [name for name in CHECKED if name in self._sources]

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            for name in self._checked():
                if self.limit_check and self.due(name):
                    await self.check(name)
            await asyncio.sleep(_LOOK)

    def due(self, upstream: str) -> bool:
        """Whether the last report is too old."""
        if upstream not in self._asked:  # at the start: much may have changed
            return True
        now, account = self._budget.now(), self._budget.present(upstream)
        reported, asked = account.window.reported, self._asked[upstream]
        heard = asked if reported is None else max(reported.at, asked)
        return now >= heard + (
            min(self.limit_check, _WHILE_SHUT) if account.shut_for(now) else self.limit_check
        )

    def ask_anew(self, upstream: str) -> None:
        """Have an upstream asked soon, as at the start: its account may have changed."""
        self._asked.pop(upstream, None)

    async def check(self, upstream: str) -> None:
        """Ask once; the budget observes the response."""
        self._asked[upstream] = self._budget.now()
        try:
            await self._sources[upstream].hint(
                CHECKED[upstream], _LATEST, self._budget.observe, insist=True
            )
        except RegistryError as error:
            _log.info("cannot tell how many pulls %s has left: %s", upstream, error)
