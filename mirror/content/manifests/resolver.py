"""The resolver of manifests: fresh ones are served, stale tags revalidated, new ones pulled."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from mirror.budget.protocol import PullBudget
from mirror.budget.pull_request import PullRequest
from mirror.content.manifests.fetcher import ManifestFetcher
from mirror.content.manifests.result import ManifestResult
from mirror.content.manifests.source import ManifestSource
from mirror.content.manifests.tag_resolver import TagResolver, missing_or
from mirror.content.manifests.tags import Tags
from mirror.content.manifests.tags_in_use import TagsInUse
from mirror.content.memory_cache import MemoryCache
from mirror.content.outcome import (
    STALE_TEXTS,
    Ahead,
    Outcome,
)
from mirror.identity.client import MIRROR_ITSELF
from mirror.oci.digest import Digest
from mirror.oci.errors import (
    Denied,
    ManifestUnknown,
    TooManyRequests,
)
from mirror.oci.image_name import ImageName
from mirror.oci.manifest import Hint
from mirror.oci.names import Reference, Repository, Tag
from mirror.storage.metadata.rows import TagKey
from mirror.storage.store import Store

_log = logging.getLogger(__name__)


class ManifestResolver:
    """The manifests of all upstreams; a stale tag's request waits `stale_after` seconds for one."""

    def __init__(
        self,
        registries: Mapping[str, ManifestSource],
        budget: PullBudget,
        store: Store,
        tags: Tags,
        memory: MemoryCache,
        in_use: TagsInUse,
        stale_after: float,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._tags = tags
        self._in_use = in_use
        self._fetcher = ManifestFetcher(registries, budget, store, tags, memory, timer)
        self._stored = self._fetcher.stored
        self._tag_resolver = TagResolver(tags, self._fetcher, budget, stale_after)

    def __repr__(self) -> str:
        return f"<ManifestResolver: {self._tag_resolver!r}, {self._fetcher!r}>"

    async def close(self) -> None:
        """Cancel all revalidations and pulls."""
        await self._tag_resolver.close()
        await self._fetcher.close()

    def forget_refusals(self, upstream: str) -> None:
        """Forget an upstream's refusals and failures, so that it is asked again."""
        self._tags.forget_refusals(upstream)
        self._fetcher.forget_refusals(upstream)

    def peek(self, repository: Repository, reference: Reference) -> ManifestResult | None:
        """Return a manifest from memory, without I/O, or `None`: the path of every warm pull."""
        if isinstance(reference, Digest):
            found = self._stored.peek(repository, reference)
        else:
            key = TagKey(repository, reference)
            tagged = self._tags.get(key)
            if tagged is None or not self._tags.fresh(tagged):
                return None
            found = self._stored.peek(repository, tagged.found.digest)
            if found is not None:
                self._in_use.hit(key, tagged)
        return None if found is None else ManifestResult(found[0], found[1], Outcome.HIT)

    async def get(
        self, repository: Repository, reference: Reference, client: str, *, head: bool
    ) -> ManifestResult:
        """Return a manifest from the cache or from upstream.

        With `head` no body is fetched and no pull is counted, unless upstream's response to a HEAD
        says too little. Raises ManifestUnknown, or UpstreamFailure if the cache has no answer.
        """
        if message := self._tags.missing(repository, reference):
            _log.debug("upstream is not asked again so soon: %s", message)
            raise ManifestUnknown(message)
        if message := self._denied(repository, reference):
            _log.debug("upstream is not asked again so soon: %s", message)
            raise Denied(message)
        found = await self._get(PullRequest(repository, reference, client), head=head)
        if client != MIRROR_ITSELF and not isinstance(reference, Digest):
            self._note_use(TagKey(repository, reference), found)
        if found.why is not None and _log.isEnabledFor(logging.DEBUG):
            words, name = STALE_TEXTS[found.why], ImageName(repository, reference)
            _log.debug("%s is served as it was %d s ago: %s", name, found.age or 0, words)
        return found

    def _note_use(self, key: TagKey, found: ManifestResult) -> None:
        tagged = self._tags.peek(key)
        if tagged is not None and found.outcome is Outcome.HIT:
            self._in_use.hit(key, tagged)
        elif tagged is not None:
            self._in_use.asked(key, tagged)

    def may_ask_ahead(self, key: TagKey) -> bool:
        """Whether upstream is well enough for a HEAD about a tag that no client waits for."""
        return self._fetcher.may_ask_ahead(PullRequest(*key, MIRROR_ITSELF))

    async def revalidate_ahead(self, key: TagKey) -> Ahead:
        """Ask upstream about a tag that has not ended yet; see `TagResolver.revalidate_ahead`."""
        return await self._tag_resolver.revalidate_ahead(key)

    async def pull_ahead(self, key: TagKey) -> None:
        """Pull the changed manifest of a tag, unless that may be counted; raises RegistryError.

        Most HEADs come from pollers, which never pull: where pulls are counted, a client's request
        decides.
        """
        request = PullRequest(*key, MIRROR_ITSELF)
        if not self._fetcher.may_be_counted(request):
            await self._get(request, head=False)

    def fresh(self, repository: Repository, tag: Tag) -> Digest | None:
        """Return the digest of a tag that is fresh, without counting as a use of it."""
        tagged = self._tags.peek(TagKey(repository, tag))
        return tagged.found.digest if tagged is not None and self._tags.fresh(tagged) else None

    async def revalidate(self, repository: Repository, tag: Tag) -> Hint:
        """Ask upstream about a tag; see `TagResolver.revalidate`."""
        return await self._tag_resolver.revalidate(TagKey(repository, tag))

    async def refresh(self, repository: Repository, tag: Tag) -> ManifestResult:
        """Ask upstream about a tag now, and fetch its manifest if that is not stored.

        A stale result says why upstream did not tell, or why its manifest was not fetched. Raises
        ManifestUnknown, Denied, or UpstreamFailure.
        """
        request = PullRequest(repository, tag, MIRROR_ITSELF)
        return await self._get(request, head=False, anew=True)

    async def preview(self, repository: Repository, reference: Reference) -> Hint:
        """Describe a manifest by stored knowledge, or by a HEAD: this never costs a pull.

        An empty hint if only a GET can tell. Raises UpstreamFailure if no answer came.
        """
        if isinstance(reference, Digest):
            found = self._stored.known(repository, reference)
            hint = await self._fetcher.confirm(repository, reference) if found is None else None
        else:
            tagged = self._tags.get(TagKey(repository, reference))
            found = tagged.found if tagged is not None and self._tags.fresh(tagged) else None
            request = PullRequest(repository, reference, MIRROR_ITSELF)
            hint = await self._fetcher.hint(request) if found is None else None
        if found is not None:
            return Hint.of(found)
        return hint or Hint()

    async def _get(self, request: PullRequest, *, head: bool, anew: bool = False) -> ManifestResult:
        repository, reference = request.repository, request.reference
        try:
            if isinstance(reference, Digest):
                return await self._by_digest(request, reference, head=head)
            return await self._tag_resolver.resolve(
                TagKey(repository, reference), request, head=head, anew=anew
            )
        except ManifestUnknown as error:
            self._tags.put_missing(repository, reference, error.message)
            raise
        except Denied as error:
            self._tags.put_denied(repository, reference, error.message)
            raise

    def _denied(self, repository: Repository, reference: Reference) -> str | None:
        """Return the message of a recent denial; none for a repository with stored content.

        Such a denial may be a mistake of upstream's, and is over with the next question.
        """
        if self._store.catalog.holds(repository):
            return None
        return self._tags.denied(repository, reference)

    async def _by_digest(
        self, request: PullRequest, digest: Digest, *, head: bool
    ) -> ManifestResult:
        """Return a manifest that is stored and linked, stored but not linked, or not stored.

        A manifest that only another upstream sent counts as not stored.
        """
        repository = request.repository
        found, outcome, hint = self._stored.known(repository, digest), Outcome.HIT, Hint()
        within = self._stored.within(repository, digest)
        if found is None and (head or within):
            hint = await self._fetcher.confirm(repository, digest)
            outcome = Outcome.REVALIDATED if within else Outcome.MISS
        if head and (found := found or hint.descriptor):
            return ManifestResult(found, None, outcome)
        manifest = None
        if found is not None or hint.digest is not None:
            manifest = await self._stored.read(repository, digest, hint.media_type)
        if manifest is not None:
            return ManifestResult(manifest.descriptor, manifest.body, outcome)
        return await self._pull_by_digest(request, digest, hint)

    async def _pull_by_digest(
        self, request: PullRequest, digest: Digest, hint: Hint
    ) -> ManifestResult:
        _log.debug("%s@%s is not stored: it is pulled", request.repository, digest)
        if hint.descriptor is not None:
            request = request.resolved(hint.descriptor)
        if awaiting := self._tags.awaiting(request.repository, digest):  # a tag was just resolved
            tag, found = awaiting
            request = replace(request, reference=tag).resolved(found)
        try:
            pulled = await self._fetcher.pull(request)
        except TooManyRequests as failure:
            raise missing_or(failure, hint, digest) from failure
        return ManifestResult(pulled.descriptor, pulled.body, Outcome.MISS)
