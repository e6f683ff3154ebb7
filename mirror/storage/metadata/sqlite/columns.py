"""The rows of the index as columns of its tables, and back."""

from __future__ import annotations

from mirror.oci.digest import Digest
from mirror.oci.errors import DigestInvalid
from mirror.oci.manifest import Descriptor
from mirror.oci.names import Repository, Tag, parse_reference
from mirror.storage.metadata.protocol import MetadataDamaged
from mirror.storage.metadata.rows import (
    AccountKey,
    BlobRow,
    ChildRow,
    Figures,
    GateRow,
    HistoryRow,
    LimitRow,
    LinkRow,
    PastPull,
    PinRow,
    PublicityRow,
    TagKey,
    TagRow,
    TypeRow,
)

_CODES = {"sha256": b"\x01", "sha512": b"\x02"}  # of algorithms, and so the first byte
_ALGORITHMS = {code[0]: algorithm for algorithm, code in _CODES.items()}


def digest_bytes(digest: str) -> bytes:
    """Return the column of a digest: a byte for the algorithm, and the hash."""
    algorithm, _, hexadecimal = digest.partition(":")
    return _CODES[algorithm] + bytes.fromhex(hexadecimal)


def digest_of(column: bytes) -> Digest:
    """Return the digest of a column. Raises MetadataDamaged."""
    try:
        return Digest(f"{_ALGORITHMS[column[0]]}:{column[1:].hex()}")
    except (LookupError, TypeError, AttributeError):
        raise MetadataDamaged(f"no digest: {column!r}") from None


def bytes_of_text(text: bytes) -> bytes | None:
    """Return the column of a digest that older schemas hold as text; None if the text is none."""
    try:
        return digest_bytes(Digest.parse(text.decode("ascii")))
    except (UnicodeDecodeError, DigestInvalid):
        return None


def link_columns(row: LinkRow) -> tuple[bytes, str, str]:
    """Return the columns of a link."""
    return digest_bytes(row.digest), row.repository.upstream, row.repository.name


def tag_columns(key: TagKey) -> tuple[str, str, str]:
    """Return the columns of a tag's name."""
    return key.repository.upstream, key.repository.name, str(key.tag)


def blob_row(
    digest: bytes, size: int, media_type: str | None, used_at: int, changed_at: int | None
) -> BlobRow:
    """Return the blob of these columns."""
    return BlobRow(digest_of(digest), size, media_type, used_at, changed_at)


def child_row(manifest: bytes, digest: bytes) -> ChildRow:
    """Return the child of these columns."""
    return ChildRow(digest_of(manifest), digest_of(digest))


def type_row(digest: bytes, upstream: str, media_type: str) -> TypeRow:
    """Return the type of these columns."""
    return TypeRow(digest_of(digest), upstream, media_type)


def tag_row(
    upstream: str, name: str, tag: str, digest: str, media_type: str, size: int, checked_at: int
) -> TagRow:
    """Return the tag of these columns."""
    key = TagKey(Repository(upstream, name), Tag(tag))
    return TagRow(key, Descriptor(Digest(digest), media_type, size), checked_at)


def pin_row(upstream: str, name: str, reference: str, digest: str, pinned_at: int) -> PinRow:
    """Return the pin of these columns."""
    named = parse_reference(reference)
    return PinRow(Repository(upstream, name), named, Digest(digest), pinned_at)


def publicity_row(upstream: str, name: str, public: int, asked_at: int) -> PublicityRow:
    """Return the publicity of these columns."""
    return PublicityRow(Repository(upstream, name), bool(public), asked_at)


def limit_row(
    upstream: str,
    account: str,
    allowed: int,
    remaining: int,
    window: int,
    source: str,
    at: int,
) -> LimitRow:
    """Return the limit of these columns."""
    return LimitRow(AccountKey(upstream, account), allowed, remaining, window, source, at)


def gate_row(upstream: str, account: str, until: int, seconds: int) -> GateRow:
    """Return the gate of these columns."""
    return GateRow(AccountKey(upstream, account), until, seconds)


def past_pull_row(upstream: str, account: str, at: int, client: str, reported: int) -> PastPull:
    """Return the past pull of these columns."""
    return PastPull(AccountKey(upstream, account), at, client, bool(reported))


def history_row(step: int, at: int, upstream: str, *sums: int) -> HistoryRow:
    """Return the step of these columns."""
    return HistoryRow(step, at, upstream, Figures(*sums))


def one_value(value: int | None) -> int | None:
    """Return the one column of a row."""
    return value
