"""The keeper of pinned tags: asks upstream about each, and stores its missing content."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Collection
from contextlib import aclosing
from dataclasses import dataclass

from mirror.admin.messages import Refused, Warmed, WarmOrder
from mirror.admin.messages.warm import MOST_PLATFORMS
from mirror.admin.operations.warm_documents import choose_children, is_index, read_children
from mirror.admin.pinned_content import missing_bytes, stored_platforms
from mirror.admin.service import AdminService
from mirror.budget.budget import Budget
from mirror.content.manifests.resolver import ManifestResolver
from mirror.content.outcome import Outcome
from mirror.identity.client import MIRROR_ITSELF
from mirror.oci import strict_json
from mirror.oci.digest import Digest
from mirror.oci.errors import RegistryError
from mirror.oci.image_name import ImageName
from mirror.oci.names import Tag
from mirror.oci.platform import Platform
from mirror.storage.errors import StorageError
from mirror.storage.store import Store
from mirror.upstream.connection_queue import CLIENT
from mirror.util.units import human

_log = logging.getLogger(__name__)

EVERY = 60.0  # seconds between two rounds
_BETWEEN = 1.0  # seconds between two questions
_AGAIN = 600.0  # seconds after a failure to store a changed image
_LEAVE = 10  # one pull of so many is left to clients
_LEAST_LEFT = 2  # pulls, of a small limit


@dataclass(frozen=True, slots=True)
class _Kept:
    """A pinned tag as it was last stored whole: its digest, and its stored platforms.

    After a failure it is left alone until a time of the event loop.
    """

    digest: Digest
    platforms: tuple[Platform, ...]
    wait_until: float = -math.inf


class PinKeeper:
    """Asks about pinned tags that are not fresh by HEAD, which costs no pull, one a second.

    Of a tag that changed, or lacks content, the platforms are stored that were stored before, by an
    order to `warm`. A tenth of the upstream's pulls is left for clients.
    """

    def __init__(
        self,
        store: Store,
        budget: Budget,
        manifests: ManifestResolver,
        upstreams: Collection[str],
        service: AdminService,
    ) -> None:
        self._store = store
        self._budget = budget
        self._manifests = manifests
        self._upstreams = upstreams
        self._service = service
        self._kept: dict[ImageName, _Kept] = {}
        self._refused = 0  # as of the last round

    def __repr__(self) -> str:
        return f"<PinKeeper: {len(self._kept)} tags>"

    async def run(self) -> None:
        """Look at all pinned tags again and again, until cancelled."""
        CLIENT.set(MIRROR_ITSELF)
        while True:
            await asyncio.sleep(EVERY)
            await self._look()

    async def _look(self) -> None:
        pins, catalog = self._store.pins, self._store.catalog
        if catalog.pins_refused > self._refused:
            self._refused = catalog.pins_refused
            most = human(catalog.most_pinned)
            _log.warning("pinned images do not fit in %s: some of their content may go", most)
        self._kept = {image: kept for image, kept in self._kept.items() if image in pins.images}
        for image in list(pins.images):
            if isinstance(image.reference, Tag) and image.repository.upstream in self._upstreams:
                try:
                    await self._keep(image, image.reference)
                except (RegistryError, StorageError) as error:
                    _log.debug("the pinned %s stays as it is: %s", image, error)
                except Exception:  # noqa: BLE001 - logged: the other images need their turn
                    _log.exception("unexpected failure to keep the pinned %s", image)
                await asyncio.sleep(_BETWEEN)

    async def _keep(self, image: ImageName, tag: Tag) -> None:
        pin = self._store.pins.images.get(image)
        if pin is None:
            return
        kept, lacks = self._kept.get(image), False
        if kept is None or kept.digest == pin.digest:
            before = kept or await self._former(image, pin.digest)
            kept = self._kept[image] = await self._look_at(pin.digest, before)
            lacks = await self._lacks(image, kept)
        digest = await self._manifests.revalidate(image.repository, tag) or pin.digest
        now = asyncio.get_running_loop().time()
        if (digest == kept.digest and not lacks) or now < kept.wait_until:
            return
        followed = await self._follow(image, kept)
        stored = self._store.pins.images.get(image)
        reached = stored.digest if followed and stored is not None else kept.digest
        # Not at once either if it was stored: content that does not stay would be fetched for ever.
        wait_until = -math.inf if followed and not lacks else now + _AGAIN
        self._kept[image] = _Kept(reached, kept.platforms, wait_until)

    async def _former(self, image: ImageName, digest: Digest) -> _Kept:
        """Return the platforms of a moved tag's former content, if the new is not whole."""
        former = self._store.pins.former(image)
        return _Kept(digest, await stored_platforms(self._store, former) if former else ())

    async def _look_at(self, digest: Digest, before: _Kept) -> _Kept:
        """Return the present content of a tag; earlier platforms may have been discarded."""
        stored = await stored_platforms(self._store, digest)
        platforms = tuple(dict.fromkeys((*before.platforms, *stored)))
        return _Kept(digest, platforms[:MOST_PLATFORMS], before.wait_until)

    async def _lacks(self, image: ImageName, kept: _Kept) -> bool:
        """Whether content is missing, and may be pinned; else the former content is unpinned."""
        missing = await missing_bytes(self._store, kept.digest, kept.platforms)
        catalog = self._store.catalog
        if missing is None or catalog.pinned_bytes + missing > catalog.most_pinned:
            self._store.pins.settle(image, kept.digest)
            return False
        return True

    async def _follow(self, image: ImageName, kept: _Kept) -> bool:
        """Store the new content of a tag; returns whether that succeeded. Raises RegistryError."""
        upstream = image.repository.upstream
        window = self._budget.present(upstream).window
        left, leave = window.left(self._budget.now()), self._leave(window.limit)
        cost = 1 + len(kept.platforms)
        if left is not None and left - cost < leave:
            _log.info("the pinned %s is not whole, and is pulled when more pulls are left", image)
            return False
        found = await self._manifests.get(
            image.repository, image.reference, MIRROR_ITSELF, head=False
        )
        if found.outcome is Outcome.STALE:
            return False
        platforms = kept.platforms
        if is_index(found.descriptor.media_type):
            children = await strict_json.on_thread(read_children, found.body or b"")
            missing = choose_children(children, platforms)[1]
            platforms = tuple(each for each in platforms if each not in missing)
            if missing and not platforms:
                names = ", ".join(map(str, missing))
                _log.warning(
                    "the pinned %s is not stored anew: it is not there for %s", image, names
                )
                return False
        return await self._warm(image, platforms, leave)

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
