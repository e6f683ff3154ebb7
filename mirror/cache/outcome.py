"""How a request was answered, in the words of metrics, logs and Cache-Status."""

from __future__ import annotations

from enum import StrEnum

from mirror.oci.errors import Denied, HeldBack, TooManyRequests, UpstreamFailure


class Outcome(StrEnum):
    """The five ways."""

    HIT = "hit"  # from the cache, upstream not asked
    MISS = "miss"  # upstream sent it
    REVALIDATED = "revalidated"  # upstream confirmed what the cache holds
    STALE = "stale"  # upstream could not be asked, the cache answered all the same
    ERROR = "error"  # neither could


class Why(StrEnum):
    """Why an answer is stale."""

    FAULT = "fault"  # upstream failed, or took too long
    LIMIT = "limit"  # no pull was left, or not for this client or repository
    SAVING = "saving"  # few pulls are left, and the change can wait
    PACE = "pace"  # upstream was asked too often, whatever is left of its pulls
    DENIED = "denied"  # upstream refuses to give it to us


STALE = {
    Why.FAULT: "upstream could not be asked",
    Why.LIMIT: "no pull is left of upstream's limit",
    Why.SAVING: "few pulls are left of upstream's limit",
    Why.PACE: "upstream is asked too often",
    Why.DENIED: "upstream denies access",
}


def why(failure: UpstreamFailure) -> Why:
    """Return why what is stale is served in the place of this failure."""
    if isinstance(failure, HeldBack):
        return Why.SAVING
    if isinstance(failure, Denied):
        return Why.DENIED
    if isinstance(failure, TooManyRequests):
        return Why.PACE if type(failure) is TooManyRequests else Why.LIMIT
    return Why.FAULT
