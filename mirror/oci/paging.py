"""Pages of a listing, identified by the query fields of upstream's own Link."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from urllib.parse import unquote

from mirror.oci.errors import PageInvalid, shown

MAX_PAGE = 1000  # entries per page that a client may request (CVE-2023-2253)
_MOST_FIELDS = 8
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
# A tag, or the token that a registry uses instead: base64 (ECR, Quay), a path, a time.
_VALUE = re.compile(r"[A-Za-z0-9._~+/=:,@|!*$-]{0,4096}", re.ASCII)
_OWN = frozenset({"ns", "artifactType"})  # fields for the mirror itself
# RFC 8288, 3: a target, and its parameters up to the next link.
_LINK = re.compile(r'<([^<>]*)>((?:[^,<"]|"[^"]*")*)')
_REL = re.compile(r';\s*rel\s*=\s*"?([^";]*)', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Paging:
    """A page: the number of entries, None for upstream's default, and the position where it begins.

    `fields` are all other fields of the query, name and value as written: `last` of the
    distribution-spec, or a registry's own fields (`next_page` of Quay).
    """

    count: int | None = None
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def last(self) -> str:
        """The tag after which the page begins, or the registry's token for it."""
        return unquote(dict(self.fields).get("last", ""))

    @property
    def plain(self) -> bool:
        """Whether there are only fields of the distribution-spec."""
        return all(name == "last" for name, _ in self.fields)

    def behind(self, tag: str) -> Paging:
        """Return a page of the same length that begins after a tag."""
        rest = tuple(field for field in self.fields if field[0] != "last")
        return replace(self, fields=(*rest, ("last", tag)))

    def query(self) -> str:
        """Return the query string of a URL."""
        count = () if self.count is None else (("n", str(self.count)),)
        return "&".join(f"{name}={value}" for name, value in (*count, *self.fields))


def read(query: str) -> Paging:
    """Parse a query string; the first of duplicate fields counts. Raises PageInvalid."""
    fields: dict[str, str] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if part and name not in _OWN:
            _check(name, value)
            fields.setdefault(name, value)
    count = _count(fields.pop("n", ""))
    if len(fields) > _MOST_FIELDS:
        raise PageInvalid(f"too many fields in the query: at most {_MOST_FIELDS} are allowed")
    return Paging(count, tuple(fields.items()))


def _check(name: str, value: str) -> None:
    """Refuse a value that two readers could take differently, or that is more than one value."""
    try:
        plain = unquote(value, errors="strict")
    except ValueError:
        plain = " "
    if not _NAME.fullmatch(name) or not (name == "n" or _VALUE.fullmatch(plain)):
        wanted = "allowed is a tag, or the value from a Link header"
        raise PageInvalid(f"invalid field {shown(name)} = {shown(value)}: {wanted}")


def _count(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise PageInvalid(f"invalid n={shown(text)}: a number of at most 9 digits is allowed")
    return min(int(text), MAX_PAGE)


def following(links: Iterable[str]) -> Paging | None:
    """Return the next page from the Link headers of a response; None if there is none.

    Only the query is taken. Scheme, host, port and path are ignored: registries behind a proxy
    often name themselves by an internal address. A link without `rel` counts, as for existing
    clients. Raises PageInvalid for a page that cannot be requested.
    """
    for target, parameters in _LINK.findall(", ".join(links)):
        rel = _REL.search(parameters)
        if rel is None or "next" in rel[1].lower().split():
            page = read(target.partition("#")[0].partition("?")[2])
            if not page.fields:
                raise PageInvalid("the next page has no query")
            return page
    return None
