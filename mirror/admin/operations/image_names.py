"""The names of stored images, in order, one repository after the other. Pure, for a thread."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import translate

from mirror.oci.digest import Digest
from mirror.oci.image_name import ImageName
from mirror.oci.names import HUB, Repository, Tag, pulled_as
from mirror.storage.catalog import Catalog
from mirror.storage.metadata.rows import TagKey
from mirror.storage.nearby import untagged
from mirror.util.merge_sort import merge_sorted

_LIBRARY = "library/"
_ANY = "*"


class AllTags:
    """All tags, by repository. `counts` has the number of tags that mean each digest.

    A tag that moved means its former digest until its new one is stored, but leads to both.
    """

    def __init__(self, known: Iterable[tuple[TagKey, Digest]]) -> None:
        self.tags: defaultdict[Repository, dict[Tag, Digest]] = defaultdict(dict)
        self.leads: defaultdict[Repository, list[Digest]] = defaultdict(list)
        for key, digest in known:
            self.tags[key.repository][key.tag] = digest
            self.leads[key.repository].append(digest)
        self.counts = Counter(each for tags in self.tags.values() for each in tags.values())


@dataclass(frozen=True, slots=True)
class Pattern:
    """A shell pattern of names: tests of a repository, and of a tag or digest.

    The expressions of Python's fnmatch take no more steps than the product of both lengths.
    """

    repository: Callable[[Repository], bool]
    reference: Callable[[str], bool]

    @classmethod
    def parse(cls, text: str | None) -> Pattern:
        """Read a shell pattern of names as docker writes them, in short or in full."""
        if text is None:
            return cls(lambda _: True, lambda _: True)
        name, reference = _split(text)
        names = re.compile(translate(name)).match
        references = re.compile(translate(reference)).match
        return cls(
            lambda repository: any(map(names, _names(repository))),
            lambda each: reference == _ANY or references(each) is not None,
        )


class ImageNames:
    """The stored images that match a pattern.

    Sorted by their full names, the images of a repository are neighbours: its tags, and then its
    manifests that no tag leads to. No name of a repository has a colon or an at sign.
    """

    def __init__(self, catalog: Catalog, tagged: AllTags, pattern: Pattern) -> None:
        self._catalog = catalog
        self._tagged = tagged
        self._pattern = pattern
        every = {*catalog.repositories(), *tagged.tags}
        self._repositories = merge_sorted(filter(pattern.repository, every), key=_first_name)

    def following(self, after: str | None) -> Iterator[tuple[ImageName, Digest]]:
        """Yield the images behind a full name, whether or not that is still stored."""
        for repository in self._repositories:
            if after is None or _last_name(repository) > after:
                for image, digest in self._of(repository):
                    if after is None or str(image) > after:
                        yield image, digest

    def count(self) -> int:
        """Return the number of images."""
        return sum(1 for repository in self._repositories for _ in self._of(repository))

    def _of(self, repository: Repository) -> Iterator[tuple[ImageName, Digest]]:
        matches = self._pattern.reference
        tags = self._tagged.tags.get(repository, {})
        for tag in sorted(filter(matches, tags)):
            if self._catalog.get(tags[tag]) is not None:
                yield ImageName(repository, tag), tags[tag]
        found = untagged(self._catalog, repository, self._tagged.leads.get(repository, ()))
        for digest in merge_sorted(filter(matches, found)):
            yield ImageName(repository, digest), digest


def _first_name(repository: Repository) -> str:
    return f"{repository}:"


def _last_name(repository: Repository) -> str:
    return f"{repository}@~"


def _split(pattern: str) -> tuple[str, str]:
    """Split a pattern into that of a repository and that of a tag or digest."""
    name, at, digest = pattern.partition("@")
    if at:
        return name, digest
    head, colon, tag = pattern.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (pattern, _ANY)


def _names(repository: Repository) -> Iterable[str]:
    short = pulled_as(repository, HUB)
    return {str(repository), short, short.removeprefix(_LIBRARY)}
