"""The outcome of a request, under its name in metrics, logs and Cache-Status."""

from __future__ import annotations

from enum import StrEnum

from mirror.oci.errors import Denied, HeldBack, TooManyRequests, UpstreamFailure


class Outcome(StrEnum):
    """The five outcomes."""

    HIT = "hit"  # from the cache, upstream not asked
    MISS = "miss"  # upstream sent it
    REVALIDATED = "revalidated"  # upstream confirmed the stored content
    STALE = "stale"  # upstream failed, denied access or was spared; the cache answered
    ERROR = "error"  # neither upstream nor the cache answered


class StaleReason(StrEnum):
    """The reason for a stale answer."""

    FAULT = "fault"  # upstream failed, or took too long
    LIMIT = "limit"  # no pull was left, or not for this client or repository
    SAVING = "saving"  # few pulls are left, and the change can wait
    PACE = "pace"  # upstream was asked too often, even if pulls are left
    DENIED = "denied"  # upstream denied the mirror access


class Ahead(StrEnum):
    """The outcome of a revalidation ahead of a tag's end, in metrics and logs."""

    CONFIRMED = "confirmed"  # the tag means the same digest
    CHANGED = "changed"  # it means another one
    HELD_BACK = "held_back"  # another one, but few pulls are left: the tag keeps its digest
    UNDECIDED = "undecided"  # upstream's answer names no digest
    FAILED = "failed"  # no answer came, or no pull is left for another digest


STALE_TEXTS = {
    StaleReason.FAULT: "upstream could not be asked",
    StaleReason.LIMIT: "no pull is left of upstream's limit",
    StaleReason.SAVING: "few pulls are left of upstream's limit",
    StaleReason.PACE: "upstream is asked too often",
    StaleReason.DENIED: "upstream denies access",
}


def stale_reason(failure: UpstreamFailure) -> StaleReason:
    """Return the reason for a stale answer that is served instead of this failure."""
    if isinstance(failure, HeldBack):
        return StaleReason.SAVING
    if isinstance(failure, Denied):
        return StaleReason.DENIED
    if isinstance(failure, TooManyRequests):
        return StaleReason.PACE if type(failure) is TooManyRequests else StaleReason.LIMIT
    return StaleReason.FAULT
