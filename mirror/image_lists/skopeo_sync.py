"""Lists for `skopeo sync`: registries with their repositories, and the tags of each."""

from __future__ import annotations

from collections.abc import Iterator

from mirror.image_lists.found import ImageList
from mirror.image_lists.yaml_nodes import Items, Node, Table, Text
from mirror.oci.errors import shown
from mirror.oci.names import is_host, stands_for_host

_LISTS = ("images", "images-by-tag-regex", "images-by-semver")


def is_skopeo_sync(document: Node) -> bool:
    """Whether a document is such a list: its keys are registries, each with a table of images."""
    if not isinstance(document, Table) or not document.pairs:
        return False
    return all(
        is_host(host)
        and stands_for_host(host)
        and isinstance(registry, Table)
        and any(registry.table(key) for key in _LISTS)
        for host, registry in document.pairs.items()
    )


def read_skopeo_sync(document: Table, found: ImageList) -> None:
    """Add the named tags and digests; tags by pattern, and all tags of a repository, are not."""
    for host, registry in document.pairs.items():
        if not isinstance(registry, Table):
            continue
        for key, repository, tags in _lists(registry):
            name = f"{host}/{repository}"
            texts = [each for each in tags.items if isinstance(each, Text)] if tags else []
            if key != "images" or not texts:
                found.skip(registry.line, f"{shown(name)} has no tags by name: they are skipped")
                continue
            for tag in texts:
                sign = "@" if ":" in tag.text else ":"
                found.add(f"{name}{sign}{tag.text}", tag.line)


def _lists(registry: Table) -> Iterator[tuple[str, str, Items | None]]:
    for key in _LISTS:
        table = registry.table(key)
        for repository, tags in table.pairs.items() if table else ():
            yield key, repository, tags if isinstance(tags, Items) else None
