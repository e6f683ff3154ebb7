"""The stored content of a pinned image: its platforms, and the missing bytes."""

from __future__ import annotations

from collections.abc import Sequence

from mirror.admin.messages.warm import LONGEST_PLATFORM
from mirror.admin.operations.warm_bounds import Bounds, NotWarmed
from mirror.admin.operations.warm_documents import (
    choose_children,
    is_index,
    read_blobs,
    read_children,
    read_config,
)
from mirror.oci import strict_json
from mirror.oci.digest import Digest
from mirror.oci.platform import Platform, read_platform
from mirror.storage.store import Store

_LARGEST_CONFIG = 1024 * 1024  # bytes; those of images have some kilobytes


async def stored_platforms(store: Store, digest: Digest) -> tuple[Platform, ...]:
    """Return the platforms of an image, as far as their manifests are stored.

    That of a plain manifest is in its config. Raises Unavailable.
    """
    entry = store.catalog.get(digest)
    if entry is None:
        return ()
    body = await store.read(digest) or b""
    if not is_index(entry.media_type or ""):
        return await _own_platform(store, await strict_json.on_thread(read_config, body))
    children = await strict_json.on_thread(read_children, body)
    stored = (each.platform for each in children if store.catalog.get(each.digest) is not None)
    return tuple({each: None for each in stored if each is not None and _is_ordinary(each)})


async def missing_bytes(store: Store, digest: Digest, platforms: Sequence[Platform]) -> int | None:
    """Return the bytes that an image lacks for platforms, as far as known; None if it is whole.

    An index that has none of these platforms lacks all; an image that `warm` refuses for its size
    counts as whole. Raises Unavailable.
    """
    bounds = Bounds()
    try:
        complete = await _enter(store, digest, platforms, bounds)
    except NotWarmed:
        return None
    missing = [each.size for each in bounds.blobs if store.catalog.get(each.digest) is None]
    return sum(missing) if missing or not complete else None


async def _enter(
    store: Store, digest: Digest, platforms: Sequence[Platform], bounds: Bounds, depth: int = 1
) -> bool:
    """Enter the blobs of the stored manifests; returns whether all manifests are stored."""
    entry = store.catalog.get(digest)
    body = None if entry is None else await store.read(digest)
    if entry is None or body is None:
        return False
    if not is_index(entry.media_type or ""):
        bounds.take(await strict_json.on_thread(read_blobs, body))
        return True
    children = await strict_json.on_thread(read_children, body)
    chosen, _ = choose_children(children, platforms)
    new = bounds.enter(chosen, depth)
    stored = [await _enter(store, each.digest, platforms, bounds, depth + 1) for each in new]
    return all(stored) and bool(chosen or not children)


async def _own_platform(store: Store, config: Digest | None) -> tuple[Platform, ...]:
    entry = None if config is None else store.catalog.get(config)
    if config is None or entry is None or entry.size > _LARGEST_CONFIG:
        return ()
    body = await store.read(config) or b""
    try:
        platform = read_platform(await strict_json.on_thread(strict_json.read, body))
    except ValueError:  # the config of another kind of artifact
        return ()
    return (platform,) if platform is not None and _is_ordinary(platform) else ()


def _is_ordinary(platform: Platform) -> bool:
    """Whether an order to `warm` takes a platform; the names in an index may be longer."""
    return len(str(platform)) <= LONGEST_PLATFORM
