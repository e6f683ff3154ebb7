"""The outcome of a request, under its name in metrics, logs and Cache-Status."""

from __future__ import annotations

from enum import StrEnum

from mirror.oci.errors import Denied, HeldBack, TooManyRequests, UpstreamFailure


class Outcome(StrEnum):
    """The five outcomes."""

    HIT = "hit"  # from the cache, upstream not asked
    MISS = "miss"  # upstream sent it
    REVALIDATED = "revalidated"  # upstream confirmed the stored content
    STALE = "stale"  # upstream could not be asked, the cache answered
    ERROR = "error"  # neither upstream nor the cache answered


class Why(StrEnum):
    """The reason for a stale answer."""

    FAULT = "fault"  # upstream failed, or took too long
    LIMIT = "limit"  # no pull was left, or not for this client or repository
    SAVING = "saving"  # few pulls are left, and the change can wait
    PACE = "pace"  # upstream was asked too often, even if pulls are left
    DENIED = "denied"  # upstream denied the mirror access


STALE = {
    Why.FAULT: "upstream could not be asked",
    Why.LIMIT: "no pull is left of upstream's limit",
    Why.SAVING: "few pulls are left of upstream's limit",
    Why.PACE: "upstream is asked too often",
    Why.DENIED: "upstream denies access",
}


def why(failure: UpstreamFailure) -> Why:
    """Return the reason for a stale answer that is served instead of this failure."""
    if isinstance(failure, HeldBack):
        return Why.SAVING
    if isinstance(failure, Denied):
        return Why.DENIED
    if isinstance(failure, TooManyRequests):
        return Why.PACE if type(failure) is TooManyRequests else Why.LIMIT
    return Why.FAULT
