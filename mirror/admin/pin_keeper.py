"""The keeper of pinned tags: asks upstream about each, and has its missing content stored."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Collection, Coroutine
from dataclasses import dataclass

from mirror.admin.absent_pins import AbsentPins
from mirror.admin.messages.warm import MOST_PLATFORMS
from mirror.admin.pin_renewal import PinRenewal
from mirror.admin.pinned_content import missing_bytes, stored_platforms
from mirror.content.manifests.resolver import ManifestResolver
from mirror.identity.client import MIRROR_ITSELF
from mirror.oci.digest import Digest
from mirror.oci.errors import Denied, RegistryError
from mirror.oci.image_name import ImageName
from mirror.oci.names import Tag
from mirror.oci.platform import Platform
from mirror.storage.errors import StorageError
from mirror.storage.store import Store
from mirror.upstream.connection_queue import CLIENT
from mirror.util.fair_semaphore import FairSemaphore
from mirror.util.units import human

_log = logging.getLogger(__name__)

EVERY = 60.0  # seconds between two rounds
_BETWEEN = 1.0  # seconds between two questions to an upstream
_AGAIN = 600.0  # seconds after a failure to store a changed image
_RENEWALS = 4  # at a time; the other runs of `warm` are for operators and schedules


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

    The rounds of one upstream wait neither for another one nor for content: renewals are tasks, a
    few at a time, shared among upstreams. A tag that changed, or lacks content, gets the platforms
    that were stored before.
    """

    def __init__(
        self,
        store: Store,
        manifests: ManifestResolver,
        upstreams: Collection[str],
        absent: AbsentPins,
        renewal: PinRenewal,
    ) -> None:
        self._store = store
        self._manifests = manifests
        self._upstreams = upstreams
        self._absent = absent
        self._renewal = renewal
        self._kept: dict[ImageName, _Kept] = {}
        self._rounds: dict[str, asyncio.Task[None]] = {}  # by upstream
        self._renewing: set[ImageName] = set()
        self._places = FairSemaphore(_RENEWALS)
        self._refused = 0  # as of the last look

    def __repr__(self) -> str:
        return f"<PinKeeper: {len(self._kept)} tags, {len(self._renewing)} renewed>"

    async def run(self) -> None:
        """Look at all pinned tags again and again, until cancelled."""
        CLIENT.set(MIRROR_ITSELF)
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(EVERY)
                self._begin(group)

    def _begin(self, group: asyncio.TaskGroup) -> None:
        """Begin a round of each upstream, unless its last one still goes on."""
        self._tell_of_room()
        tags = self._tags()
        self._kept = {image: kept for image, kept in self._kept.items() if image in tags}
        self._absent.keep(tags)
        self._rounds = {name: each for name, each in self._rounds.items() if not each.done()}
        for upstream in {image.repository.upstream for image in tags} - self._rounds.keys():
            self._rounds[upstream] = group.create_task(self._round(upstream, group))

    def _tags(self) -> dict[ImageName, Tag]:
        """Return the pinned tags of present upstreams."""
        return {
            image: image.reference
            for image in self._store.pins.images
            if isinstance(image.reference, Tag) and image.repository.upstream in self._upstreams
        }

    def _tell_of_room(self) -> None:
        catalog = self._store.catalog
        if catalog.pins_refused > self._refused:
            self._refused = catalog.pins_refused
            most = human(catalog.most_pinned)
            _log.warning("pinned images do not fit in %s: some of their content may go", most)

    async def _round(self, upstream: str, group: asyncio.TaskGroup) -> None:
        for image, tag in self._tags().items():
            if image.repository.upstream == upstream and image not in self._renewing:
                await self._guarded(image, self._keep(image, tag, group))
                await asyncio.sleep(_BETWEEN)

    async def _guarded(self, image: ImageName, work: Coroutine[None, None, bool]) -> bool:
        """Do work for an image; a failure is logged: the other images need their turn."""
        try:
            return await work
        except (RegistryError, StorageError) as error:
            _log.debug("the pinned %s stays as it is: %s", image, error)
        except Exception:  # noqa: BLE001 - logged
            _log.exception("unexpected failure to keep the pinned %s", image)
        return False

    async def _keep(self, image: ImageName, tag: Tag, group: asyncio.TaskGroup) -> bool:
        """Ask about a tag, and begin its renewal if it is due; returns whether it is whole."""
        pin = self._store.pins.images.get(image)
        if pin is None:
            return False
        kept, lacks = self._kept.get(image), False
        if kept is None or kept.digest == pin.digest:
            before = kept or await self._former(image, pin.digest)
            kept = self._kept[image] = await self._look_at(pin.digest, before)
            lacks = await self._lacks(image, kept)
        digest = await self._ask(image, tag, pin.digest)
        if digest is None or (digest == kept.digest and not lacks):
            return not lacks
        if asyncio.get_running_loop().time() >= kept.wait_until:
            self._renewing.add(image)
            group.create_task(self._renew(image, kept, lacks=lacks))
        return False

    async def _ask(self, image: ImageName, tag: Tag, present: Digest) -> Digest | None:
        """Return the digest of a tag, the present one if only a GET can tell; None if absent."""
        known = self._manifests.fresh(image.repository, tag)
        if known is None and self._absent.waits(image):
            return None
        try:
            hint = None if known else await self._manifests.revalidate(image.repository, tag)
        except Denied:
            self._note_absence(image)
            raise
        if hint is not None and hint.missing:
            self._note_absence(image)
            return None
        found = known or (hint.digest if hint else None)
        if found is not None and self._absent.back(image):
            _log.info("upstream has the pinned %s again", image)
        return found or present

    def _note_absence(self, image: ImageName) -> None:
        if self._absent.note(image):
            words = "upstream no longer has the pinned %s: its content stays, and HEADs get rare"
            _log.warning(words, image)

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

    async def _renew(self, image: ImageName, kept: _Kept, *, lacks: bool) -> None:
        """Store the content of a tag when there is a place for its upstream."""
        try:
            async with self._places.taken(image.repository.upstream):
                if image in self._store.pins.images:
                    work = self._renewal.run(image, kept.platforms)
                    self._note(image, kept, lacks=lacks, done=await self._guarded(image, work))
        finally:
            self._renewing.discard(image)

    def _note(self, image: ImageName, kept: _Kept, *, lacks: bool, done: bool) -> None:
        stored = self._store.pins.images.get(image)
        reached = stored.digest if done and stored is not None else kept.digest
        # Not at once either if it was stored: content that does not stay would be fetched for ever.
        again = -math.inf if done and not lacks else asyncio.get_running_loop().time() + _AGAIN
        self._kept[image] = _Kept(reached, kept.platforms, again)
