"""`warm`: stores images before clients request them, by the parts that serve clients."""

from __future__ import annotations

import asyncio
import logging
import platform
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Literal

from mirror.admin.messages import OrderError, Record
from mirror.admin.messages.warm import (
    ImageFor,
    PullsLeft,
    Warmed,
    WarmedImage,
    WarmOrder,
    WarmPlan,
    WarmProgress,
)
from mirror.admin.operations.parts import LiveParts, OperationParts
from mirror.admin.operations.warm_bounds import NotWarmed
from mirror.admin.operations.warm_cost import ImageCost
from mirror.admin.operations.warm_image import ImageWarming
from mirror.admin.operations.warm_platforms import requested_platforms
from mirror.admin.operations.warm_pulls import ImagePulls
from mirror.admin.operations.warm_room import Names, Room, look_before
from mirror.identity.client import MIRROR_ITSELF
from mirror.oci.digest import Digest
from mirror.oci.errors import RegistryError
from mirror.oci.image_name import ImageName, parse_image
from mirror.oci.platform import Platform, parse_platform
from mirror.storage.errors import StorageError
from mirror.upstream.connection_queue import CLIENT
from mirror.util.cooperative import cooperatively
from mirror.util.gc_pause import gc_paused

_log = logging.getLogger(__name__)

_IMAGES = 4  # at a time
# At a time, for all runs, and no more than a quarter of `max_fetches`: the rest is for clients.
_MOST_BLOBS = 6
_MOST_RUNS = 8
_TELL_EVERY = 0.25  # seconds; at the next record an order notices that its command has left

_Chosen = tuple[tuple[Platform, ...], Literal["given", "clients", "machine"]]
_Wanted = tuple[ImageName, tuple[Platform, ...], bool]  # the last: whether to insist on each


async def warm(parts: OperationParts, order: WarmOrder) -> AsyncGenerator[Record, None]:
    """Yield the plan, progress and images as they end, and finally the result.

    Raises OrderError if the order itself cannot be carried out.
    """
    live = parts.running("warm")
    if live.warm_figures.running >= _MOST_RUNS:
        raise OrderError(f"{_MOST_RUNS} runs of warm are under way: expected fewer")
    live.warm_figures.running += 1  # at once: other orders begin while this one is read
    try:
        with live.warm_pulls.run(None if order.dry else order.leave):
            async with aclosing(_carried_out(parts, live, order)) as records:
                async for record in records:
                    yield record
    finally:
        live.warm_figures.running -= 1


async def _carried_out(
    parts: OperationParts, live: LiveParts, order: WarmOrder
) -> AsyncGenerator[Record, None]:
    images = [_parsed(each) async for each in cooperatively(order.images)]
    platforms, by = await _platforms(parts, order)
    names = tuple(map(str, platforms))
    wanted = [(name, (own,) if own else platforms, own is not None) for name, own in images]
    yield WarmPlan(len(wanted), names, by)
    run = _Run(parts, live, order, insist=by == "given")
    began = time.monotonic()
    async with aclosing(run.all(wanted)) as records:
        async for record in records:
            yield record
    result = run.result(names, by, time.monotonic() - began)
    if not order.dry:
        live.warm_figures.last_ended = time.time()
        live.warm_figures.last_failed = result.failed
    yield result


def _parsed(image: str | ImageFor) -> tuple[ImageName, Platform | None]:
    """Parse an image of an order; raises OrderError."""
    try:
        if isinstance(image, ImageFor):
            return parse_image(image.image), parse_platform(image.platform)
        return parse_image(image), None
    except (RegistryError, ValueError) as error:
        raise OrderError(_reason(error)) from None


async def _platforms(parts: OperationParts, order: WarmOrder) -> _Chosen:
    """Return the platforms of an order: given, or requested by clients, or this machine's."""
    try:
        given = tuple(dict.fromkeys(map(parse_platform, order.platforms)))
    except ValueError as error:
        raise OrderError(str(error)) from None
    if given:
        return given, "given"
    if requested := await requested_platforms(parts):
        return tuple(requested), "clients"
    return (parse_platform(f"linux/{platform.machine() or 'amd64'}"),), "machine"


class _Run:
    """One order under way."""

    def __init__(
        self, parts: OperationParts, live: LiveParts, order: WarmOrder, *, insist: bool
    ) -> None:
        self._parts = parts
        self._live = live
        self._dry = order.dry
        self._insist = insist
        self._leave = order.leave
        self._claims = live.warm_claims.copy() if order.dry else live.warm_claims
        self._room = Room(parts.store, self._claims)
        live.warm_places.change(max(1, min(_MOST_BLOBS, live.fetches.max_fetches // 4)))
        self._upstreams: dict[str, None] = {}
        self._waiting: deque[tuple[int, _Wanted]] = deque()
        self._running: dict[int, ImageWarming] = {}
        self._done: dict[int, WarmedImage] = {}
        self._untold: deque[WarmedImage] = deque()
        self._sums = Counter[str]()  # of the images that are done
        self._counted: dict[Digest, int] = {}  # content that an image of a dry run costs
        self._planned = Counter[str]()  # pulls of a dry run, by upstream

    async def all(self, wanted: list[_Wanted]) -> AsyncGenerator[Record, None]:
        """Bring all images, a few at a time; yields each image that ends, and progress."""
        self._waiting.extend(enumerate(wanted))
        self._upstreams = dict.fromkeys(name.repository.upstream for name, *_ in wanted)
        await self._look({(name.repository, name.reference) for name, *_ in wanted})
        workers = [asyncio.create_task(self._work()) for _ in range(min(_IMAGES, len(wanted)))]
        try:
            pending = set(workers)
            while pending:
                ended, pending = await asyncio.wait(pending, timeout=_TELL_EVERY)
                while self._untold:
                    yield self._untold.popleft()
                yield self._progress(len(wanted))
                for worker in ended:
                    worker.result()
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            self._room.close()

    async def _look(self, names: Names) -> None:
        """Use the stored content of all images: none of it makes room for another image."""
        store, known = self._parts.store, self._parts.tags.known()
        look, view, claimed = gc_paused()(look_before), store.catalog.view(), self._claims.copy()
        self._room.before = await store.run_read(
            look, view, known, names, claimed, store.catalog.is_pinned
        )
        async for digest in cooperatively(() if self._dry else self._room.before.content):
            if store.catalog.get(digest) is not None:
                store.touch(digest)

    async def _work(self) -> None:
        CLIENT.set(MIRROR_ITSELF)
        while self._waiting:
            number, wanted = self._waiting.popleft()
            done = await (self._reckon(wanted) if self._dry else self._bring(number, wanted))
            self._done[number] = done
            self._untold.append(done)
            self._sums["bytes"] += done.bytes
            self._sums["pulls"] += done.pulls
            self._sums["failed"] += done.failure is not None
            await asyncio.sleep(0)  # an image that fails at once waits for nothing

    async def _bring(self, number: int, wanted: _Wanted) -> WarmedImage:
        name, platforms, own = wanted
        image = self._running[number] = ImageWarming(
            self._parts,
            self._live,
            name,
            platforms,
            insist=self._insist or own,
            allowed=ImagePulls(self._live.warm_pulls, name.repository.upstream, self._leave),
            room=self._room,
        )
        try:
            failure = await _failure(name, image.run())
        finally:
            del self._running[number]
            self._count(image)
        figures = self._live.warm_figures
        if failure is None:
            figures.warmed += 1
        else:
            figures.failed += 1
        digest, chosen = image.digest, tuple(dict.fromkeys(image.chosen))
        return WarmedImage(str(name), digest, chosen, image.pulls, image.arrived, False, failure)

    def _count(self, image: ImageWarming) -> None:
        self._live.warm_figures.pulls += image.pulls
        self._live.warm_figures.bytes += image.arrived

    async def _reckon(self, wanted: _Wanted) -> WarmedImage:
        name, platforms, own = wanted
        cost = ImageCost(
            self._parts,
            self._live,
            name,
            platforms,
            insist=self._insist or own,
            room=self._room,
            counted=self._counted,
            planned=self._planned,
            leave=self._leave,
        )
        failure = await _failure(name, cost.run())
        chosen = tuple(dict.fromkeys(cost.chosen))
        return WarmedImage(
            str(name), cost.digest, chosen, cost.pulls, cost.missing, cost.unknown, failure
        )

    def _progress(self, images: int) -> WarmProgress:
        sums, running = self._sums, [*self._running.values()]
        missing = sum(max(each.missing_bytes, each.arrived) for each in running)
        return WarmProgress(
            images=len(self._done),
            all_images=images,
            failed=sums["failed"],
            pulls=sums["pulls"] + sum(each.pulls for each in running),
            bytes=sums["bytes"] + sum(each.arrived for each in running),
            all_bytes=sums["bytes"] + missing,
            running=tuple(each.progress for each in running),
        )

    def result(
        self, platforms: tuple[str, ...], by: Literal["given", "clients", "machine"], seconds: float
    ) -> Warmed:
        """Return the result of all images, in their order."""
        images = tuple(self._done[number] for number in sorted(self._done))
        return Warmed(
            images=images,
            platforms=platforms,
            chosen_by=by,
            failed=self._sums["failed"],
            pulls=self._sums["pulls"],
            bytes=self._sums["bytes"],
            unknown=any(each.unknown for each in images),
            seconds=round(seconds, 3),
            dry=self._dry,
            leave=self._leave,
            pulls_left=self._pulls_left(),
            needed=self._room.needed,
            room=max(0, self._room.limit()),
        )

    def _pulls_left(self) -> tuple[PullsLeft, ...]:
        left = ((each, self._live.warm_pulls.left(each)) for each in self._upstreams)
        return tuple(PullsLeft(each, pulls) for each, pulls in left if pulls is not None)


async def _failure(name: ImageName, work: Coroutine[None, None, None]) -> str | None:
    """Do the work for one image; returns the reason if it fails."""
    try:
        await work
    except (NotWarmed, RegistryError, StorageError) as error:
        return _reason(error)
    except Exception:  # noqa: BLE001 - logged: the other images may succeed
        _log.exception("unexpected failure to warm %s", name)
        return "the mirror failed; its log has the reason"
    return None


def _reason(error: Exception) -> str:
    return error.message if isinstance(error, RegistryError) else str(error)
