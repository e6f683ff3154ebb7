"""The parts that answer for content: access, manifests, blobs and listings."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial

from mirror.access.authorizer import Authorizer
from mirror.access.policy import AccessRules
from mirror.app.closing import closed
from mirror.app.core import Core
from mirror.app.upstreams import Upstreams
from mirror.content.blobs.fetch_pool import FetchPool
from mirror.content.blobs.possession import Possession
from mirror.content.blobs.service import BlobService
from mirror.content.listings.known_tags import KnownTags
from mirror.content.listings.service import ListingService
from mirror.content.manifests.refresh_ahead import RefreshAhead
from mirror.content.manifests.resolver import ManifestResolver
from mirror.content.manifests.source import ManifestSource
from mirror.content.manifests.tags_in_use import TagsInUse
from mirror.content.repositories import Repositories
from mirror.content.warm_figures import WarmFigures
from mirror.oci.names import Repository
from mirror.settings import Settings
from mirror.storage.catalog import Catalog
from mirror.storage.secret import folder_key
from mirror.upstream.publicity_check import ProbedContent


@dataclass(frozen=True, slots=True)
class ContentParts:
    """The parts that answer for content. `folder_key` is the data folder's own secret."""

    access: Authorizer
    manifests: ManifestResolver
    refresh_ahead: RefreshAhead
    fetches: FetchPool
    blobs: BlobService
    listings: ListingService
    repositories: Repositories
    warm_figures: WarmFigures
    folder_key: bytes = field(repr=False)


async def build_content(
    stack: AsyncExitStack, settings: Settings, core: Core, upstreams: Upstreams
) -> ContentParts:
    """Return the parts, to be closed at the end of the stack."""
    store, registries = core.store, upstreams.registries
    access = closed(stack, build_authorizer(settings, core, upstreams))
    in_use = build_tags_in_use(settings, core)
    manifests = closed(stack, build_manifests(settings, core, registries, in_use))
    key = await store.run(folder_key, store.root)
    possession = closed(stack, Possession(store, key))
    fetches = FetchPool(
        sources=registries,
        store=store,
        possession=possession,
        memory=core.memory,
        abandon_after=settings.abandon_after,
        max_fetches=settings.max_fetches,
        on_end=core.recorder.fetched,
    )
    blobs = BlobService(
        sources=registries,
        store=store,
        fetches=fetches,
        possession=possession,
        memory=core.memory,
        missing_ttl=settings.missing_ttl,
    )
    listings = ListingService(
        registries=registries,
        manifests=manifests,
        known=KnownTags(core.tags),
        tag_ttl=settings.tag_ttl,
        missing_ttl=settings.missing_ttl,
        stale_after=settings.stale_after,
    )
    return ContentParts(
        access=access,
        manifests=manifests,
        refresh_ahead=build_refresh_ahead(core, manifests, in_use, upstreams.rules),
        fetches=fetches,
        blobs=closed(stack, blobs),
        listings=closed(stack, listings),
        repositories=closed(stack, Repositories(store.catalog, access)),
        warm_figures=WarmFigures(),
        folder_key=key,
    )


def build_tags_in_use(settings: Settings, core: Core) -> TagsInUse:
    """Return the tags in use, none yet."""
    return TagsInUse(
        core.tags,
        tag_ttl=settings.tag_ttl,
        tag_refresh_ahead=settings.tag_refresh_ahead,
        timer=core.clocks.timer,
    )


def build_refresh_ahead(
    core: Core, manifests: ManifestResolver, in_use: TagsInUse, rules: Mapping[str, AccessRules]
) -> RefreshAhead:
    """Return the refresh of tags in use; repositories that the rules refuse are left out."""

    def serves(repository: Repository) -> bool:
        found = rules.get(repository.upstream)
        return found is not None and found.permits(repository.name)

    return RefreshAhead(in_use, manifests, serves, timer=core.clocks.timer)


def build_manifests(
    settings: Settings, core: Core, registries: Mapping[str, ManifestSource], in_use: TagsInUse
) -> ManifestResolver:
    """Return the manifests of all upstreams, to be closed."""
    return ManifestResolver(
        registries=registries,
        budget=core.budget,
        store=core.store,
        tags=core.tags,
        memory=core.memory,
        in_use=in_use,
        stale_after=settings.stale_after,
        timer=core.clocks.timer,
    )


def build_authorizer(settings: Settings, core: Core, upstreams: Upstreams) -> Authorizer:
    """Return the access check, with the publicity checks of every upstream, to be closed."""
    return Authorizer(
        rules=upstreams.rules,
        publicity_checks=upstreams.publicity_checks,
        publicity=upstreams.publicity,
        stale_after=settings.stale_after,
        other_stored=partial(_other_stored, core.store.catalog),
    )


def _other_stored(
    catalog: Catalog, repository: Repository, wanted: ProbedContent | None
) -> ProbedContent | None:
    """Return stored content of a repository, other than `wanted`."""
    digest = catalog.any_of(repository, None if wanted is None else wanted.reference)
    entry = None if digest is None else catalog.get(digest)
    if digest is None or entry is None:
        return None
    return ProbedContent("blob" if entry.media_type is None else "manifest", digest)
