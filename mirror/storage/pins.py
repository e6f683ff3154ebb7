"""Pins: images that an operator keeps from eviction, and the content that they need."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mirror.oci.digest import Digest
from mirror.oci.image_name import ImageName
from mirror.oci.names import Repository, Tag
from mirror.storage.catalog import Catalog, charged
from mirror.storage.errors import TooManyPins
from mirror.storage.metadata.protocol import PinMetadata
from mirror.storage.metadata.rows import PinRow
from mirror.util.units import human

_log = logging.getLogger(__name__)

MOST_PINS = 1000
# Digests of one image: each takes a microsecond of the event loop when the image is pinned, or its
# tag moves. The largest honest image has some thousands.
_MOST_NEEDED = 16_384
HALF = 0.5


@dataclass(frozen=True, slots=True)
class Pin:
    """A pinned image: the digest that it meant last, and all content that this needs.

    The content is stored or not. `pinned_at` is in seconds since the epoch.
    """

    digest: Digest
    pinned_at: int
    needs: Mapping[Digest, None]


@dataclass(slots=True)
class _Content:
    """All that one digest needs, and by how many pinned images it is held."""

    needs: dict[Digest, None]
    images: int = 0


class Pins:
    """The pinned images of a store. `clock` is the wall clock, in seconds.

    `max_pinned` is the part of `max_size` that they may take, from 0 to 1; `resize` applies it.

    The content of each is known all the time: an eviction looks nothing up. It changes if the image
    is pinned or unpinned, its tag moves, or one of its manifests arrives.
    """

    def __init__(
        self,
        index: PinMetadata,
        catalog: Catalog,
        max_pinned: float = HALF,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.max_pinned = max_pinned
        self._index = index
        self._catalog = catalog
        self._clock = clock
        self._pins: dict[ImageName, Pin] = {}
        self.any = asyncio.Event()  # an image is pinned, or was since the start
        self._former: dict[ImageName, Digest] = {}  # until the new content is stored whole
        self._contents: dict[Digest, _Content] = {}  # many tags may mean one digest
        self._needed: Counter[Digest] = Counter()  # by how many of these
        index.when_lost(self._tell)

    def __repr__(self) -> str:
        return f"<Pins: {len(self._pins)} images, {self._catalog.pinned_bytes} bytes>"

    async def load(self) -> None:
        """Read the index; the content of the store has to be known by then."""
        for row in await self._index.pins():
            image = ImageName(row.repository, row.reference)
            self._put(image, row.digest, row.pinned_at)

    @property
    def images(self) -> Mapping[ImageName, Pin]:
        """The pinned images."""
        return MappingProxyType(self._pins)

    def bytes(self, image: ImageName) -> int:
        """Return the bytes that are stored of a pinned image."""
        return self._stored(self._pins[image].needs)

    def pin(self, image: ImageName, digest: Digest) -> None:
        """Pin an image that means a stored manifest; an image that is pinned already stays so.

        Raises TooManyPins if its content does not fit, if it has too many parts, or if these are
        not recorded.
        """
        needs = self._needs_of(digest)
        if image not in self._pins and len(self._pins) >= MOST_PINS:
            raise TooManyPins(f"{MOST_PINS} images are pinned already, which is the most")
        if len(needs) >= _MOST_NEEDED:
            raise TooManyPins(f"it has {_MOST_NEEDED} parts or more")
        if unknown := self._unrecorded(needs):
            raise TooManyPins(f"{unknown} names no parts, or too many to be recorded and kept")
        self._check_room(needs)
        before = self._pins.get(image)
        pinned_at = int(self._clock()) if before is None else before.pinned_at
        self._put(image, digest, pinned_at)
        self._write(image)

    def _check_room(self, needs: Iterable[Digest]) -> None:
        more = self._stored(each for each in needs if not self._catalog.is_pinned(each))
        taken, most = self._catalog.pinned_bytes, self._catalog.most_pinned
        if taken + more > most:
            raise TooManyPins(
                f"it takes {human(more)} more, and pinned images take {human(taken)} of the "
                f"{human(most)} that they may: {self.max_pinned * 100:g}% of max_size, by the key "
                "max_pinned"
            )

    def unpin(self, image: ImageName) -> bool:
        """Unpin an image; False if it was not pinned."""
        if image not in self._pins:
            return False
        self._release(self._pins.pop(image).digest)
        self._drop_former(image)
        self._index.drop_pin(image.repository, image.reference)
        self._catalog.bound_pinned(self._catalog.most_pinned)  # others may have room now
        return True

    def moved(self, repository: Repository, tag: Tag, digest: Digest) -> None:
        """Note that a tag means a stored manifest, perhaps another than before.

        The content that was whole last stays pinned, if there is room, until `settle`.
        """
        image = ImageName(repository, tag)
        before = self._pins.get(image)
        if before is None or before.digest == digest:
            return
        self._move(image, before, digest)
        if self._former.get(image) == digest:  # it is back
            self._drop_former(image)
        self._write(image)
        _log.info("%s is pinned, and is %s now", image, digest)
        if unknown := self._unrecorded((digest,)):
            _log.warning("%s is pinned, but %s has too many parts: these may go", image, unknown)

    def resume(self, repository: Repository, tag: Tag, digest: Digest) -> None:
        """Note at the start that a tag means a stored manifest; the index is not written.

        If its row has another digest, the content of that was whole last, and that of `digest` was
        still on its way.
        """
        image = ImageName(repository, tag)
        before = self._pins.get(image)
        if before is not None and before.digest != digest:
            self._move(image, before, digest)

    def former(self, image: ImageName) -> Digest | None:
        """Return the digest of a moved tag's former content, while its new content arrives."""
        return self._former.get(image)

    def settle(self, image: ImageName, digest: Digest) -> None:
        """Unpin the former content of a tag that means `digest`: all of that is stored."""
        pin = self._pins.get(image)
        if pin is not None and pin.digest == digest and self._drop_former(image):
            self._write(image)
            self._catalog.bound_pinned(self._catalog.most_pinned)  # others may have room now

    def arrived(self, digest: Digest) -> None:
        """Note that a manifest is stored: pinned images that need it need its content."""
        if digest not in self._needed:
            return
        below = self._needs(digest)
        for content in self._contents.values():
            if digest in content.needs:
                room = max(0, _MOST_NEEDED - len(content.needs))
                more = [each for each in below if each not in content.needs][:room]
                content.needs.update(dict.fromkeys(more))
                self._keep(more)

    def holding(self, digest: Digest) -> ImageName | None:
        """Return a pinned image that needs a digest; the former content of a tag is not needed."""
        if digest not in self._needed:
            return None
        return next((image for image, pin in self._pins.items() if digest in pin.needs), None)

    def held(self) -> set[Digest]:
        """Return the content that is pinned: also the former content of tags that have moved."""
        former = (self._needs_of(digest) for digest in self._former.values())
        return {
            each
            for needs in (*(pin.needs for pin in self.images.values()), *former)
            for each in needs
        }

    def resize(self, max_size: int) -> None:
        """Take up another `max_size`, in bytes: pinned content beyond its share may be evicted."""
        before = self._catalog.pinned_bytes
        self._catalog.bound_pinned(int(max_size * self.max_pinned))
        if self._catalog.pinned_bytes < before:
            most = human(self._catalog.most_pinned)
            _log.warning("pinned images take more than %s: the rest may be evicted", most)

    def _put(self, image: ImageName, digest: Digest, pinned_at: int) -> None:
        """Pin the content of an image before that of its earlier digest is unpinned."""
        before = self._pins.get(image)
        self._pins[image] = Pin(digest, pinned_at, self._hold(digest))
        self.any.set()
        if before is not None:
            self._release(before.digest)

    def _move(self, image: ImageName, before: Pin, digest: Digest) -> None:
        if image not in self._former:
            self._keep_former(image, before)
        self._put(image, digest, before.pinned_at)
        if image not in self._former:
            self._catalog.bound_pinned(self._catalog.most_pinned)  # others may have room now

    def _keep_former(self, image: ImageName, pin: Pin) -> None:
        """Hold the former content, if as much again may be pinned: the new needs room."""
        if self._catalog.pinned_bytes + self._stored(pin.needs) <= self._catalog.most_pinned:
            self._former[image] = pin.digest
            self._hold(pin.digest)

    def _drop_former(self, image: ImageName) -> bool:
        former = self._former.pop(image, None)
        if former is not None:
            self._release(former)
        return former is not None

    def _hold(self, digest: Digest) -> Mapping[Digest, None]:
        content = self._contents.get(digest)
        if content is None:
            content = self._contents[digest] = _Content(self._needs(digest))
            self._keep(content.needs)
        content.images += 1
        return content.needs

    def _keep(self, digests: Iterable[Digest]) -> None:
        for digest in digests:
            self._needed[digest] += 1
            self._catalog.pin(digest)

    def _release(self, root: Digest) -> None:
        content = self._contents[root]
        content.images -= 1
        if content.images:
            return
        del self._contents[root]
        for digest in content.needs:
            self._needed[digest] -= 1
            if not self._needed[digest]:
                del self._needed[digest]
                self._catalog.unpin(digest)

    def _needs_of(self, digest: Digest) -> Mapping[Digest, None]:
        content = self._contents.get(digest)
        return self._needs(digest) if content is None else content.needs

    def _needs(self, digest: Digest) -> dict[Digest, None]:
        """Return a digest and all that it references, as far as manifests are stored."""
        needs: dict[Digest, None] = {}
        ahead = [digest]
        while ahead and len(needs) < _MOST_NEEDED:
            each = ahead.pop()
            if each not in needs:
                needs[each] = None
                entry = self._catalog.get(each)
                ahead.extend(entry.children if entry is not None else ())
        return needs

    def _unrecorded(self, digests: Iterable[Digest]) -> Digest | None:
        """Return a stored manifest without recorded children, which are evicted unseen."""
        for digest in digests:
            entry = self._catalog.get(digest)
            if entry is not None and entry.media_type is not None and not entry.children:
                return digest
        return None

    def _stored(self, digests: Iterable[Digest]) -> int:
        entries = map(self._catalog.get, digests)
        return sum(charged(entry.size) for entry in entries if entry is not None)

    def _write(self, image: ImageName) -> None:
        """Write a row, with the former digest while the new content arrives: see `resume`."""
        pin = self._pins[image]
        whole = self._former.get(image, pin.digest)
        self._index.put_pin(PinRow(image.repository, image.reference, whole, pin.pinned_at))

    def _tell(self) -> Iterator[ImageName]:
        """Write all pins to a new index: it was lost."""
        for image in list(self._pins):
            if image in self._pins:
                self._write(image)
                yield image
