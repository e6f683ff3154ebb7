"""A trial of every upstream, as the daemon would ask it: name, TLS, login, and the pull limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime

from mirror.app.upstream_plans import UpstreamPlans
from mirror.app.upstreams import connected
from mirror.budget.budget import CHECKED
from mirror.oci.errors import RegistryError
from mirror.oci.names import Tag
from mirror.settings import Settings
from mirror.upstream.client import RegistryClient
from mirror.upstream.telemetry import PullLimit, UpstreamResponse

_NONE_OF_THE_LOGIN = frozenset({401, 403})


@dataclass(frozen=True, slots=True)
class Trial:
    """The outcome for one upstream, in words for the operator; a `fault` would prevent pulls.

    Durations are in seconds: `seconds` until `/v2/` was answered, `head` until a HEAD of a manifest
    was, None if none was sent. `skew` is how far this machine's clock is ahead of upstream's.
    """

    upstream: str
    words: str
    fault: bool = False
    seconds: float | None = None
    head: float | None = None
    skew: float | None = None
    limit: PullLimit | None = None


async def tried(settings: Settings) -> list[Trial]:
    """Try all upstreams at the same time; raises ConfigurationError."""
    limits: dict[str, PullLimit] = {}

    def note(answer: UpstreamResponse) -> None:
        if answer.limit is not None:
            limits[answer.upstream] = answer.limit

    async with AsyncExitStack() as stack:
        plans = UpstreamPlans(settings).all.values()
        registries = [await connected(stack, each, note, lambda *_: None) for each in plans]
        return await asyncio.gather(*(_try(each, limits) for each in registries))


async def _try(registry: RegistryClient, limits: dict[str, PullLimit]) -> Trial:
    name, account_name = registry.origin.name, registry.origin.account_name
    began, head = time.perf_counter(), None
    try:
        answer = await registry.root()
        seconds = time.perf_counter() - began
        skew = _skew(answer.date, seconds)
        if account_name and answer.status in _NONE_OF_THE_LOGIN:
            words = f"answers {answer.status} to the login of {account_name}"
            return Trial(name, words, fault=True, seconds=seconds, skew=skew)
        if name in CHECKED:
            began = time.perf_counter()
            await registry.hint(CHECKED[name], Tag("latest"), lambda _: None, insist=True)
            head = time.perf_counter() - began
    except RegistryError as error:
        return Trial(name, error.message, fault=True)
    limit = limits.get(name)
    texts = ", ".join(_texts(answer.status, seconds, account_name, limit))
    return Trial(name, texts, seconds=seconds, head=head, skew=skew, limit=limit)


def _skew(date: datetime | None, seconds: float) -> float | None:
    """Compare the clocks: a Date is cut to seconds, and was written before the answer came."""
    if date is None:
        return None
    return time.time() - seconds / 2 - (date.timestamp() + 0.5)


def _texts(
    status: int, seconds: float, account_name: str, limit: PullLimit | None
) -> Iterator[str]:
    yield f"answers {status} in {seconds:.2f} s"
    yield f"as {account_name}" if account_name else "as anonymous"
    if limit is not None:
        yield f"{limit.remaining} of {limit.limit} pulls are left"
