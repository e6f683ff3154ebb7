"""A trial of every upstream, as the daemon would ask it: name, TLS, login, and the pull limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

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
    """The outcome for one upstream, in words for the operator; a `fault` would prevent pulls."""

    upstream: str
    words: str
    fault: bool = False


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
    began = time.perf_counter()
    try:
        status = await registry.root_status()
        seconds = time.perf_counter() - began
        if account_name and status in _NONE_OF_THE_LOGIN:
            return Trial(name, f"answers {status} to the login of {account_name}", fault=True)
        if name in CHECKED:
            await registry.hint(CHECKED[name], Tag("latest"), lambda _: None, insist=True)
    except RegistryError as error:
        return Trial(name, error.message, fault=True)
    texts = _texts(status, seconds, account_name, limits.get(name))
    return Trial(name, ", ".join(texts))


def _texts(
    status: int, seconds: float, account_name: str, limit: PullLimit | None
) -> Iterator[str]:
    yield f"answers {status} in {seconds:.2f} s"
    yield f"as {account_name}" if account_name else "as anonymous"
    if limit is not None:
        yield f"{limit.remaining} of {limit.limit} pulls are left"
