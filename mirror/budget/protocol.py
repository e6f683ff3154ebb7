"""The seam between manifests and their budget: the prospect, grant and record of each pull."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from mirror.budget.pull_request import PullRequest
from mirror.oci.digest import Digest
from mirror.oci.errors import PullLimitSpent, TooManyRequests
from mirror.upstream.telemetry import UpstreamResponse


@dataclass(frozen=True, slots=True)
class Outlook:
    """The prospect of a pull at this moment; nothing is spent or reserved by it.

    `gate` is the refusal of every request for a manifest, HEADs included, while no pull is left.
    `refusal` is that of the pull itself: None if it goes, or waits for the running ones.
    `held_back`: a tag that may have changed keeps its older digest for now, so that pulls are left
    for other requests. `limited`: pulls have a limit at all. `heads_counted`: upstream seems to
    count HEADs as pulls, too.
    """

    gate: PullLimitSpent | None = None
    refusal: TooManyRequests | None = None
    held_back: bool = False
    limited: bool = False
    heads_counted: bool = False


class PullBudget(Protocol):
    """The pull limits of all upstreams, for the parts that fetch manifests."""

    def outlook(self, request: PullRequest) -> Outlook:
        """Return the prospect of a pull, by local knowledge."""

    def counts(self, upstream: str) -> bool:
        """Whether an upstream may count a GET of a manifest, as far as that is known."""

    def admit(self, request: PullRequest) -> AbstractAsyncContextManager[None]:
        """Grant a pull, reserved until the context is left; raises TooManyRequests.

        If the decision depends on running pulls, the context waits for them as it is entered, and
        may raise TooManyRequests then.
        """

    def hint(self, request: PullRequest, platforms: Collection[Digest] | None = None) -> None:
        """Reserve a pull for the manifest that the client will request next.

        After a HEAD that is the manifest of the request: its cost is held back from requests that
        could be served from the cache. After the pull of an index it is one of its `platforms`
        that are not stored, without which the index is useless: one pull is held back from all.
        """

    def observe(self, response: UpstreamResponse, request: PullRequest | None = None) -> None:
        """Note a response: whether it was counted, and the limit that it names.

        `request` is the client's; None if the mirror asked for itself.
        """
