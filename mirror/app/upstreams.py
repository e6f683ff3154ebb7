"""The configured upstreams: each made from its settings, and replaced when they change."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from mirror.access.policy import AccessRules
from mirror.access.publicity import Publicity
from mirror.app.closing import closed
from mirror.app.core import Core
from mirror.app.upstream_plans import UpstreamPlan, UpstreamPlans
from mirror.budget.budget import Budget
from mirror.oci.errors import NameUnknown
from mirror.oci.names import Repository
from mirror.upstream.auth.factory import anonymous_origin
from mirror.upstream.auth.tokens import Tokens
from mirror.upstream.client import RegistryClient
from mirror.upstream.publicity_check import PublicityCheck
from mirror.upstream.telemetry import UpstreamResponse
from mirror.upstream.transport import Transport
from mirror.util.uncancelled import wait_until_done

_log = logging.getLogger(__name__)

QUIET = 5.0  # seconds without a question, after which a former upstream is closed

V = TypeVar("V")


class UpstreamTable(dict[str, V]):
    """One value per upstream, by name; a reload changes the values, never the object."""

    def __missing__(self, name: str) -> V:
        """Refuse a request that began before its upstream was removed."""
        raise NameUnknown(f"upstream {name} is no longer configured")


@dataclass(frozen=True, slots=True)
class Reached:
    """One upstream: its connections and tokens, and a second client of it without an account."""

    plan: UpstreamPlan
    registry: RegistryClient
    anonymous_client: RegistryClient | None
    stack: AsyncExitStack

    @property
    def all(self) -> list[RegistryClient]:
        """Return both clients."""
        return (
            [self.registry]
            if self.anonymous_client is None
            else [self.registry, self.anonymous_client]
        )


class Upstreams:
    """The configured upstreams. `registries` and `publicity_checks` are looked up for each request.

    An upstream that is replaced or removed completes its requests, on its open connections, and is
    closed some seconds after the last of them.
    """

    def __init__(
        self,
        on_answer: Callable[[UpstreamResponse], None],
        publicity: Publicity,
        budget: Budget,
        timer: Callable[[], float],
    ) -> None:
        self.registries: UpstreamTable[RegistryClient] = UpstreamTable()
        self.publicity_checks: UpstreamTable[PublicityCheck] = UpstreamTable()
        self.rules: UpstreamTable[AccessRules] = UpstreamTable()
        self.on_answer = on_answer
        self.publicity = publicity
        self._budget = budget
        self._timer = timer
        self._now: dict[str, Reached] = {}
        self._leaving: dict[asyncio.Task[None], Reached] = {}

    def __repr__(self) -> str:
        return f"<Upstreams: {len(self._now)}, {len(self._leaving)} leaving>"

    @property
    def plans(self) -> dict[str, UpstreamPlan]:
        """The plan of each upstream."""
        return {name: each.plan for name, each in self._now.items()}

    async def close(self) -> None:
        """Close all upstreams, former ones at once."""
        leaving = dict(self._leaving)
        for task in leaving:
            task.cancel()
        await wait_until_done([*leaving])
        for each in (*leaving.values(), *self._now.values()):
            await each.stack.aclose()

    async def prepare(self, plans: UpstreamPlans) -> dict[str, Reached]:
        """Make the upstreams that are new or have a new plan."""
        prepared: dict[str, Reached] = {}
        try:
            for name, plan in plans.all.items():
                if name not in self._now or self._now[name].plan is not plan:
                    prepared[name] = await self.reach(plan)
        except BaseException:
            for each in prepared.values():
                await each.stack.aclose()
            raise
        return prepared

    def commit(self, plans: UpstreamPlans, prepared: Mapping[str, Reached]) -> None:
        """Use the plans and the prepared upstreams from now on; does not wait."""
        gone = [name for name in self._now if name not in plans.all]
        for name in (*gone, *prepared):
            if name in self._now:
                self._retire(name, self._now.pop(name))
        for name, each in prepared.items():
            self._now[name] = each
            self._take_in(name, each)
        self.rules.update(plans.rules)
        for name in gone:
            del self.rules[name], self.publicity_checks[name]

    def _take_in(self, name: str, reached: Reached) -> None:
        former = self.registries.get(name)
        if former is not None:  # its counter goes on
            reached.registry.received += former.received
        self.registries[name] = reached.registry
        self.publicity_checks[name] = PublicityCheck(
            reached.anonymous_client or reached.registry,
            reached.registry if reached.anonymous_client is not None else None,
            partial(self._budget.counts, name),
            self._budget.observe,
        )

    def _retire(self, name: str, reached: Reached) -> None:
        leave = self._leave(name, reached, reached.registry.received)
        task = asyncio.create_task(leave, name=f"leaving {name}")
        self._leaving[task] = reached
        task.add_done_callback(self._left)

    async def _leave(self, name: str, reached: Reached, before: int) -> None:
        """Close an upstream when all its requests have ended."""
        try:
            for registry in reached.all:
                await registry.leases.over(QUIET)
        finally:
            successor = self.registries.get(name)
            if successor is reached.registry:  # the upstream was removed
                del self.registries[name]
            elif successor is not None:
                successor.received += reached.registry.received - before
            await reached.stack.aclose()

    def _left(self, task: asyncio.Task[None]) -> None:
        reached = self._leaving.pop(task)
        if not task.cancelled() and (error := task.exception()):
            _log.error("the former %s did not close", reached.plan.origin.name, exc_info=error)

    async def reach(self, plan: UpstreamPlan) -> Reached:
        """Make an upstream, with unshared connections and tokens."""
        async with AsyncExitStack() as stack:
            name, account = plan.origin.name, plan.origin.logs_in
            on_access = _noting_access(self.publicity, name, account=account)
            registry = await connected(stack, plan, self.on_answer, on_access, self._timer)
            anonymous_client = None
            if account:
                anonymous_plan = replace(
                    plan,
                    origin=anonymous_origin(plan.origin),
                    connection=plan.connection.as_anonymous(),
                )
                anonymous_client = await connected(
                    stack, anonymous_plan, self.on_answer, lambda *_: None, self._timer
                )
            return Reached(plan, registry, anonymous_client, stack.pop_all())


def _noting_access(
    publicity: Publicity, upstream: str, *, account: bool
) -> Callable[[str, bool], None]:
    """Return a callback that tells publicity of access, granted or denied."""
    return lambda name, granted: publicity.observe(
        Repository(upstream, name), granted, by_account=account
    )


async def connected(
    stack: AsyncExitStack,
    plan: UpstreamPlan,
    on_answer: Callable[[UpstreamResponse], None],
    on_access: Callable[[str, bool], None],
    timer: Callable[[], float] = time.monotonic,
) -> RegistryClient:
    """Make the client of an upstream, with unshared connections and tokens."""
    transport = await stack.enter_async_context(
        Transport(plan.origin.url, plan.timeouts, connection_settings=plan.connection, timer=timer)
    )
    tokens = closed(stack, Tokens(transport, on_answer))
    return closed(stack, RegistryClient(plan.origin, transport, tokens, on_answer, on_access))


async def open_upstreams(
    stack: AsyncExitStack,
    core: Core,
    plans: UpstreamPlans,
    on_answer: Callable[[UpstreamResponse], None],
) -> Upstreams:
    """Make all upstreams, to be closed at the end of the stack."""
    store, clocks = core.store, core.clocks
    publicity = Publicity(
        accounts=plans.accounts,
        index=store.index,
        holds=store.catalog.holds,
        timer=clocks.timer,
        clock=clocks.wall,
    )
    await publicity.load()
    upstreams = closed(stack, Upstreams(on_answer, publicity, core.budget, timer=clocks.timer))
    upstreams.commit(plans, await upstreams.prepare(plans))
    return upstreams
