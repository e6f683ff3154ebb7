"""Rows of the index as types. Times are in seconds since the epoch, where nothing else is said."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from mirror.oci.digest import Digest
from mirror.oci.manifest import Descriptor
from mirror.oci.names import Reference, Repository, Tag

TopKind: TypeAlias = Literal["image", "client"]


class BlobRow(NamedTuple):
    """A stored blob or manifest; only a manifest has a media type.

    `changed_at` is the modification time of its file in nanoseconds; None if it is not known.
    """

    digest: Digest
    size: int
    media_type: str | None
    used_at: int
    changed_at: int | None = None


class TotalRow(NamedTuple):
    """The sums over the stored content: how many, and the bytes in whole blocks of a disk."""

    blobs: int  # manifests included
    manifests: int
    bytes: int


class ChildRow(NamedTuple):
    """A digest that a stored manifest references."""

    manifest: Digest
    digest: Digest


class TypeRow(NamedTuple):
    """An upstream's media type for a stored manifest."""

    digest: Digest
    upstream: str
    media_type: str


class LinkRow(NamedTuple):
    """A digest that a repository contains."""

    digest: Digest
    repository: Repository


class TagKey(NamedTuple):
    """The name of a tag."""

    repository: Repository
    tag: Tag


class TagRow(NamedTuple):
    """The descriptor of a tag's manifest as of `checked_at`."""

    key: TagKey
    found: Descriptor
    checked_at: int


class PinRow(NamedTuple):
    """A pinned image: a tag or a manifest, and the digest that the image meant last.

    If a tag has moved, and its new content is not whole yet, that is the former digest.
    """

    repository: Repository
    reference: Reference
    digest: Digest
    pinned_at: int


class PublicityRow(NamedTuple):
    """Whether upstream serves a repository to anonymous clients, as of `asked_at`."""

    repository: Repository
    public: bool
    asked_at: int


class AccountKey(NamedTuple):
    """An account at an upstream; its name is empty for the anonymous one."""

    upstream: str
    name: str


class PullRow(NamedTuple):
    """A counted request.

    `session` is a number that the process has made up for itself, `entry` the number of the pull in
    that session: a write that is repeated enters it once. The store numbers the pulls of all
    sessions, in the order of entry.
    """

    session: int
    entry: int
    account: AccountKey
    at: int
    repository: str
    reference: str
    digest: str
    client: str


class PastPull(NamedTuple):
    """A counted request, as far as it is read again.

    It is `reported` if it was entered before the last report of the account's limit.
    """

    account: AccountKey
    at: int
    client: str
    reported: bool


class LimitRow(NamedTuple):
    """The limit as upstream last reported it: pulls per `window` seconds, as of `at`."""

    account: AccountKey
    allowed: int
    remaining: int
    window: int
    source: str
    at: int


class GateRow(NamedTuple):
    """The gate of an account: shut until `until`.

    `seconds` was the time left when the row was written.
    """

    account: AccountKey
    until: int
    seconds: int


class AskedRow(NamedTuple):
    """The pulls that clients requested of an upstream in the hour that began at `hour`."""

    upstream: str
    hour: int
    pulls: int


class SpenderRow(NamedTuple):
    """The pulls spent by a client, or on a repository or tag."""

    name: str
    pulls: int


class Figures(NamedTuple):
    """Sums of a time: requests for manifests and blobs, pulls, bytes, and requests to upstream.

    `spared` is in milliseconds, `ran` (the time in which the mirror ran) in seconds; `evicted`, as
    `sent` and `received`, is in bytes.
    """

    requests: int
    hits: int
    stale: int
    errors: int
    sent: int
    sent_from_cache: int
    asked: int
    counted: int
    spared: int
    upstream_requests: int
    upstream_failures: int
    received: int
    evicted: int
    ran: int


class HistoryRow(NamedTuple):
    """The sums of the `step` (its length in seconds) that began at `at`.

    A row without an upstream is about the mirror itself.
    """

    step: int
    at: int
    upstream: str
    figures: Figures


class TopRow(NamedTuple):
    """An image or a client, with its pulls and bytes sent in the hour that began at `hour`."""

    hour: int
    what: TopKind
    name: str
    pulls: int
    sent: int
