"""The renewal of a pinned tag: its missing content is stored, by an order to `warm`."""

from __future__ import annotations

import logging
from contextlib import aclosing

from mirror.admin.messages import Refused, Warmed, WarmOrder
from mirror.admin.operations.warm_documents import choose_children, is_index, read_children
from mirror.admin.service import AdminService
from mirror.budget.budget import Budget
from mirror.content.manifests.resolver import ManifestResolver
from mirror.content.manifests.result import ManifestResult
from mirror.content.outcome import Outcome
from mirror.identity.client import MIRROR_ITSELF
from mirror.oci import strict_json
from mirror.oci.image_name import ImageName
from mirror.oci.platform import Platform

_log = logging.getLogger(__name__)

_LEAVE = 10  # one pull of so many is left to clients
_LEAST_LEFT = 2  # pulls, of a small limit


class PinRenewal:
    """Stores the platforms of pinned tags; a tenth of the upstream's pulls is left for clients."""

    def __init__(self, budget: Budget, manifests: ManifestResolver, service: AdminService) -> None:
        self._budget = budget
        self._manifests = manifests
        self._service = service

    def __repr__(self) -> str:
        return "<PinRenewal>"

    async def run(self, image: ImageName, platforms: tuple[Platform, ...]) -> bool:
        """Store the content of a tag; returns whether that succeeded. Raises RegistryError."""
        window = self._budget.present(image.repository.upstream).window
        left, leave = window.left(self._budget.now()), self._leave(window.limit)
        if left is not None and left - (1 + len(platforms)) < leave:
            _log.info("the pinned %s is not whole, and is pulled when more pulls are left", image)
            return False
        found = await self._manifests.get(
            image.repository, image.reference, MIRROR_ITSELF, head=False
        )
        if found.outcome is Outcome.STALE:
            return False
        present = await self._present(image, found, platforms)
        return present is not None and await self._warm(image, present, leave)

    async def _present(
        self, image: ImageName, found: ManifestResult, platforms: tuple[Platform, ...]
    ) -> tuple[Platform, ...] | None:
        """Return the platforms that an image still has; None if all of them are gone."""
        if not is_index(found.descriptor.media_type):
            return platforms
        children = await strict_json.on_thread(read_children, found.body or b"")
        missing = choose_children(children, platforms)[1]
        present = tuple(each for each in platforms if each not in missing)
        if missing and not present:
            names = ", ".join(map(str, missing))
            _log.warning("the pinned %s is not stored anew: it is not there for %s", image, names)
            return None
        return present

    async def _warm(self, image: ImageName, platforms: tuple[Platform, ...], leave: int) -> bool:
        names = tuple(map(str, platforms))
        order = WarmOrder((str(image),), names, leave)
        failure: str | None = "the order was broken off"
        async with aclosing(self._service.carry_out(order)) as records:
            async for record in records:
                if isinstance(record, Refused):
                    failure = record.reason
                elif isinstance(record, Warmed):
                    [warmed] = record.images
                    failure = warmed.failure
        if failure is None:
            _log.info("the pinned %s is stored anew", image)
        else:
            _log.warning("the pinned %s is not stored anew: %s", image, failure)
        return failure is None

    def _leave(self, limit: int | None) -> int:
        return max(_LEAST_LEFT, (limit or 0) // _LEAVE)
