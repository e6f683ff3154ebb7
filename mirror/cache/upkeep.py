"""Upkeep: what an operator can have done to what is kept, beside pulls that go on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from mirror.cache.budget import Budget
from mirror.cache.memory import Memory
from mirror.cache.reckoning import reckon
from mirror.cache.records import (
    Collect,
    Collected,
    Measure,
    Order,
    Purge,
    Purged,
    Reckon,
    Record,
    Refused,
    UpkeepError,
    Usage,
    Verify,
)
from mirror.cache.tags import TagKey, Tags
from mirror.cache.tally import Tally
from mirror.cache.usage import holders_of, measure
from mirror.cache.verify import Verification
from mirror.oci.digest import Digest
from mirror.oci.errors import RegistryError, shown
from mirror.oci.names import Repository
from mirror.oci.target import ImageName, Target, parse_target
from mirror.store.store import Store


class Upkeep:
    """Carries out orders. Content that goes leaves the books, the disk, and memory.

    Nobody's body is cut: a file that is read stays readable, and a fetch enters what it brings
    when it is proven, whatever was removed before. `altered` is what was found wrong, and
    discarded, when the store was opened for this: to be told of by the first to verify.
    """

    def __init__(
        self,
        store: Store,
        tags: Tags,
        memory: Memory,
        budget: Budget,
        tally: Tally,
        altered: tuple[Digest, ...] = (),
    ) -> None:
        self._store = store
        self._tags = tags
        self._memory = memory
        self._budget = budget
        self._tally = tally
        self._altered = altered

    def __repr__(self) -> str:
        return f"<Upkeep of {self._store!r}>"

    async def carry_out(self, order: Order) -> AsyncGenerator[Record, None]:
        """Tell of progress, at last the result; what cannot be done ends in Refused."""
        try:
            if isinstance(order, Verify):
                run = Verification(self._store, self._memory, order, self._altered).run()
                async with aclosing(run) as records:
                    async for record in records:
                        yield record
            else:
                yield await self._result(order)
        except UpkeepError as error:
            yield Refused(str(error))
        except OSError as error:
            yield Refused(f"the data folder {self._store.files.root} fails: {error.strerror}")

    async def _result(self, order: Collect | Purge | Measure | Reckon) -> Record:
        if isinstance(order, Collect):
            return await self.collect()
        if isinstance(order, Purge):
            return await self.purge(order.target)
        if isinstance(order, Reckon):
            self._tally.tick()
            return await reckon(self._budget, self._tally)
        return await self.measure()

    async def measure(self) -> Usage:
        """Tell what takes the space."""
        return await measure(self._store, self._tags)

    # Removing what is of no use

    async def collect(self) -> Collected:
        """Remove partials that nobody fetches, files without a row, rows without their file.

        Then evict until the bound holds. Raises OSError.
        """
        store = self._store
        before = {digest: store.catalogue.get(digest) for digest in store.catalogue}
        files = store.files
        found = await store.run_read(lambda: {each.digest: each.size for each in files.scan()})
        # One that was there before the look and is the same after it should have been seen.
        lost = [
            digest
            for digest, entry in before.items()
            if entry is not None
            and found.get(digest) != entry.size
            and store.catalogue.get(digest) is entry
        ]
        for digest in lost:
            self._memory.drop(digest)
            await store.discard(digest)
        partials, partial_bytes = await store.room.remove_partials(list(store.books.idle_partials))
        strangers, stranger_bytes = await store.room.remove_strangers(found)
        evicted, evicted_bytes = store.books.evicted, store.books.evicted_bytes
        await store.trim()
        freed = partial_bytes + stranger_bytes + store.books.evicted_bytes - evicted_bytes
        return Collected(partials, strangers, len(lost), store.books.evicted - evicted, freed)

    # Removing what is named

    async def purge(self, text: str) -> Purged:
        """Remove an image, a repository or content; raises UpkeepError, OSError."""
        target = self._target(text)
        if isinstance(target, Digest):
            return await self._purge_digest(target)
        if isinstance(target, ImageName):
            return await self._purge_image(target)
        return await self._purge_repository(target)

    def _target(self, text: str) -> Target:
        upstreams = {repository.upstream for (repository, _), _ in self._tags.known()}
        for digest in self._store.catalogue:
            entry = self._store.catalogue.get(digest)
            upstreams.update(link.upstream for link in (entry.links if entry else ()))
        try:
            return parse_target(text, upstreams)
        except RegistryError as error:
            raise UpkeepError(error.message) from None

    async def _purge_digest(self, digest: Digest) -> Purged:
        """Remove content by its name, whoever needs it: they will fetch it again."""
        partials, partial_bytes = await self._store.room.remove_partials([digest])
        kept = self._store.catalogue.get(digest) is not None
        if not kept and not partials:
            raise UpkeepError(f"nothing is kept of {digest}")
        freed = await self._remove([digest])
        return Purged(str(digest), 0, int(kept) + partials, 0, freed + partial_bytes)

    async def _purge_image(self, image: ImageName) -> Purged:
        """Remove its tag, and what nothing else needs of what that leads to."""
        here = image.repository
        leads = {digest for key, digest in self._tags.known() if key == (here, image.reference)}
        if isinstance(image.reference, Digest) and self._store.catalogue.held(
            image.reference, here
        ):
            leads.add(image.reference)
        if not leads:
            raise UpkeepError(f"nothing is kept of {shown(str(image))}")
        gone_tags = [key for key, digest in self._tags.known() if _names(image, key, digest)]
        whole = self._store.catalogue.reach(leads)
        tagged = [(key, digest) for key, digest in self._tags.known() if key not in gone_tags]
        needed = self._needed(whole, here, [digest for _, digest in tagged])
        self._leave(here, needed, [digest for key, digest in tagged if key[0] == here], whole)
        self._drop(gone_tags)
        freed = await self._remove(whole - needed)
        return Purged(str(image), len(set(gone_tags)), len(whole - needed), len(needed), freed)

    def _needed(
        self, whole: set[Digest], here: Repository, tagged: Iterable[Digest]
    ) -> set[Digest]:
        """Return what of an image others need: tags, manifests outside of it, other repositories.

        A blob is needed by manifests only: which repository it came from says nothing.
        """
        catalogue = self._store.catalogue
        anchors = whole.intersection(tagged)
        for digest in whole:
            entry = catalogue.get(digest)
            manifest = entry is not None and entry.media_type is not None
            elsewhere = entry is not None and any(link != here for link in entry.links)
            if (manifest and elsewhere) or not whole.issuperset(catalogue.parents(digest)):
                anchors.add(digest)
        return catalogue.reach(anchors)

    def _leave(
        self,
        here: Repository,
        needed: set[Digest],
        tagged_here: Iterable[Digest],
        whole: set[Digest],
    ) -> None:
        """Take manifests that only others need off a repository."""
        catalogue = self._store.catalogue
        rest = [
            digest
            for digest in catalogue.manifests()
            if digest not in whole and catalogue.held(digest, here)
        ]
        needed_here = catalogue.reach([*tagged_here, *rest])
        for digest in needed - needed_here:
            self._store.books.unlink(digest, here)

    async def _purge_repository(self, repository: Repository) -> Purged:
        """Remove its tags, and what no other repository holds."""
        keys = {key for key, _ in self._tags.known() if key[0] == repository}
        holders = holders_of(self._store.catalogue)
        held = {digest: where for digest, where in holders.items() if repository in where}
        if not keys and not held:
            raise UpkeepError(f"nothing is kept of {shown(str(repository))}")
        alone = {digest for digest, where in held.items() if len(where) == 1}
        self._drop(keys)
        for digest in held.keys() - alone:
            self._store.books.unlink(digest, repository)
        freed = await self._remove(alone)
        return Purged(str(repository), len(keys), len(alone), len(held) - len(alone), freed)

    def _drop(self, keys: Iterable[TagKey]) -> None:
        for key in set(keys):
            self._tags.drop(key)

    async def _remove(self, digests: Iterable[Digest]) -> int:
        """Remove content; returns the bytes that come free. Raises OSError."""
        digests = list(digests)
        for digest in digests:
            self._memory.drop(digest)
        return await self._store.room.remove(digests)


def _names(image: ImageName, key: TagKey, digest: Digest) -> bool:
    """Whether a tag is the image's name, or leads to the manifest that it names."""
    return key[0] == image.repository and image.reference in (key[1], digest)
