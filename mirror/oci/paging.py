"""Paging: which page of a listing is meant, in the words that upstream's own Link has for it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from urllib.parse import unquote

from mirror.oci.errors import PageInvalid, shown

MAX_PAGE = 1000  # entries a client may ask for (CVE-2023-2253)
_MOST_FIELDS = 8
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
# A tag, or the token that a registry writes in its place: base64 (ECR, Quay), a path, a time.
_VALUE = re.compile(r"[A-Za-z0-9._~+/=:,@|!*$-]{0,4096}", re.ASCII)
_OWN = frozenset({"ns", "artifactType"})  # what the mirror reads itself
# RFC 8288, 3: a target, and its parameters up to the next link.
_LINK = re.compile(r'<([^<>]*)>((?:[^,<"]|"[^"]*")*)')
_REL = re.compile(r';\s*rel\s*=\s*"?([^";]*)', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Paging:
    """A page: how many entries are wanted, None for as many as upstream likes, and where it begins.

    `fields` are name and value, as they were written, of all else in the query: `last` of the
    distribution-spec, or what the registry has beside it or in its place (`next_page` of Quay).
    """

    count: int | None = None
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def last(self) -> str:
        """The tag behind which the page begins, or what the registry writes in its place."""
        return unquote(dict(self.fields).get("last", ""))

    @property
    def plain(self) -> bool:
        """Whether nothing is carried but what the distribution-spec has."""
        return all(name == "last" for name, _ in self.fields)

    def behind(self, tag: str) -> Paging:
        """Return the page of as many entries behind a tag."""
        rest = tuple(field for field in self.fields if field[0] != "last")
        return replace(self, fields=(*rest, ("last", tag)))

    def query(self) -> str:
        """Write the query of a URL."""
        count = () if self.count is None else (("n", str(self.count)),)
        return "&".join(f"{name}={value}" for name, value in (*count, *self.fields))


def read(query: str) -> Paging:
    """Read a query; of a name that stands there twice the first counts. Raises PageInvalid."""
    fields: dict[str, str] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if part and name not in _OWN:
            _check(name, value)
            fields.setdefault(name, value)
    count = _count(fields.pop("n", ""))
    if len(fields) > _MOST_FIELDS:
        raise PageInvalid(f"a page is named by at most {_MOST_FIELDS} fields")
    return Paging(count, tuple(fields.items()))


def _check(name: str, value: str) -> None:
    """Refuse what might mean two things to two readers, or more than one value."""
    try:
        plain = unquote(value, errors="strict")
    except ValueError:
        plain = " "
    if not _NAME.fullmatch(name) or not (name == "n" or _VALUE.fullmatch(plain)):
        wanted = "a tag is wanted, or what a Link had there"
        raise PageInvalid(f"{shown(name)} is {shown(value)}: {wanted}")


def _count(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise PageInvalid(f"n is {shown(text)}: a number of tags is wanted")
    return min(int(text), MAX_PAGE)


def following(links: Iterable[str]) -> Paging | None:
    """Read the next page from the Link headers of an answer; None where there is none.

    Only the query is taken: whatever scheme, host, port and path it names, registries mean
    themselves, by a name that they have behind a proxy. A link without `rel` counts, as it does
    for the clients there are. Raises PageInvalid for one that cannot be asked for.
    """
    for target, parameters in _LINK.findall(", ".join(links)):
        rel = _REL.search(parameters)
        if rel is None or "next" in rel[1].lower().split():
            page = read(target.partition("#")[0].partition("?")[2])
            if not page.fields:
                raise PageInvalid("upstream's Link names no other page")
            return page
    return None
