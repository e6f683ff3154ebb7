"""The configured upstreams: each made from its settings, and replaced when they change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from yarl import URL

from mirror.access.authorizer import AccessRules
from mirror.access.publicity import Publicity
from mirror.app import conversions
from mirror.budget.budget import Budget
from mirror.oci.errors import NameUnknown
from mirror.oci.names import HUB, Repository
from mirror.settings import ConfigurationError, Settings, Upstream
from mirror.upstream.auth.credentials import Credentials
from mirror.upstream.auth.factory import (
    Configured,
    ExtraMissing,
    anonymous_origin,
    origin,
)
from mirror.upstream.auth.origin import Origin
from mirror.upstream.auth.tokens import Tokens
from mirror.upstream.client import RegistryClient
from mirror.upstream.connection import ConnectionSettings
from mirror.upstream.publicity_check import PublicityCheck
from mirror.upstream.telemetry import UpstreamResponse
from mirror.upstream.transport import Timeouts, Transport
from mirror.util.uncancelled import wait_until_done

_log = logging.getLogger(__name__)

QUIET = 5.0  # seconds without a question, after which a former upstream is closed
# Keys that the registry's client does not use: a change keeps connections and tokens.
_ASIDE = frozenset(
    {"hosts", "allow", "deny", "private", "pull_limit", "pull_window", "reserve", "reserved_for"}
)
_FILES = ("ca_file", "client_cert", "client_key", "password_file", "docker_config")

V = TypeVar("V")


class Table(dict[str, V]):
    """One value per upstream, by name; a reload changes the values, never the object."""

    def __missing__(self, name: str) -> V:
        """Refuse a request that began before its upstream was removed."""
        raise NameUnknown(f"upstream {name} is no longer configured")


@dataclass(frozen=True, slots=True)
class UpstreamPlan:
    """The way to ask one upstream. Plans that are `alike` in all settings and files are equal."""

    origin: Origin
    link: ConnectionSettings
    timeouts: Timeouts
    alike: tuple[object, ...]


class UpstreamPlans:
    """The plans of all upstreams; unchanged ones are taken over from `now`.

    Raises ConfigurationError. It reads files: preferably on a thread.
    """

    def __init__(self, settings: Settings, now: Mapping[str, UpstreamPlan] | None = None) -> None:
        timeouts, known = conversions.timeouts(settings), now or {}
        self.all = {
            name: _plan(name, each, timeouts, known.get(name))
            for name, each in settings.upstreams.items()
        }
        self.rules = {name: conversions.rules(each) for name, each in settings.upstreams.items()}

    def __repr__(self) -> str:
        return f"<UpstreamPlans: {len(self.all)} upstreams>"

    @property
    def accounts(self) -> frozenset[str]:
        """The names of upstreams that the mirror logs in to."""
        return frozenset(name for name, each in self.all.items() if each.origin.logs_in)


@dataclass(frozen=True, slots=True)
class Reached:
    """One upstream: its connections and tokens, and a second client of it without an account."""

    plan: UpstreamPlan
    registry: RegistryClient
    stranger: RegistryClient | None
    stack: AsyncExitStack

    @property
    def all(self) -> list[RegistryClient]:
        """Return both clients."""
        return [self.registry] if self.stranger is None else [self.registry, self.stranger]


class Upstreams:
    """The configured upstreams. `registries` and `inquiries` are looked up for each request.

    An upstream that is replaced or removed completes its requests, on its open connections, and is
    closed some seconds after the last of them.
    """

    def __init__(
        self,
        on_answer: Callable[[UpstreamResponse], None],
        publicity: Publicity,
        budget: Budget,
    ) -> None:
        self.registries: Table[RegistryClient] = Table()
        self.inquiries: Table[PublicityCheck] = Table()
        self.rules: Table[AccessRules] = Table()
        self.on_answer = on_answer
        self._publicity = publicity
        self._budget = budget
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
            del self.rules[name], self.inquiries[name]

    def _take_in(self, name: str, reached: Reached) -> None:
        former = self.registries.get(name)
        if former is not None:  # its counter goes on
            reached.registry.received += former.received
        self.registries[name] = reached.registry
        self.inquiries[name] = PublicityCheck(
            reached.stranger or reached.registry,
            reached.registry if reached.stranger is not None else None,
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
            told = _told(self._publicity, name, account=account)
            registry = await connected(stack, plan, self.on_answer, told)
            stranger = None
            if account:
                nobody = replace(
                    plan, origin=anonymous_origin(plan.origin), link=plan.link.as_anonymous()
                )
                stranger = await connected(stack, nobody, self.on_answer, lambda *_: None)
            return Reached(plan, registry, stranger, stack.pop_all())


def _tell_proxy(plan: UpstreamPlan, upstream: Upstream) -> None:
    """Log a proxy that comes from the environment, not from the configuration."""
    proxy = plan.link.proxies.of(plan.origin.url)
    if proxy is not None and upstream.proxy is None:
        bare = proxy.with_user(None)
        _log.info("%s is reached through %s, the environment's proxy", plan.origin.name, bare)


def _told(publicity: Publicity, upstream: str, *, account: bool) -> Callable[[str, bool], None]:
    """Return a callback that tells publicity of access, granted or denied."""
    return lambda name, granted: publicity.told(
        Repository(upstream, name), granted, by_account=account
    )


def _plan(
    name: str, upstream: Upstream, timeouts: Timeouts, known: UpstreamPlan | None
) -> UpstreamPlan:
    """Return an upstream's plan: the known one if settings and files are unchanged."""
    core = upstream.model_dump(exclude=set(_ASIDE))
    files = (_print(getattr(upstream, key)) for key in _FILES)
    alike = (core, _counts(name, upstream), timeouts, *files)
    if known is not None and known.alike == alike:
        return known
    plan = UpstreamPlan(origin_of(name, upstream), link_of(name, upstream), timeouts, alike)
    _tell_proxy(plan, upstream)
    return plan


def _print(file: Path | None) -> bytes | None:
    """Return a hash of a file; None if it cannot be read, which is reported elsewhere."""
    try:
        return None if file is None else sha256(file.read_bytes()).digest()
    except OSError:
        return None


def _counts(name: str, upstream: Upstream) -> bool:
    return name == HUB or upstream.pull_limit is not None


def origin_of(name: str, upstream: Upstream) -> Origin:
    """Return an upstream's origin; raises ConfigurationError."""
    try:
        account = Credentials(upstream.username, conversions.secret(upstream))
    except ConfigurationError as error:
        raise ConfigurationError(f"upstreams.{name}.{error}") from None
    configured = Configured(
        auth=upstream.auth,
        account=account,
        password_file=upstream.password_file,
        docker_config=upstream.docker_config,
        realms=upstream.realms,
        whose=upstream.whose,
    )
    try:
        found = origin(name, URL(upstream.url), configured)
    except (ExtraMissing, ValueError) as error:
        raise ConfigurationError(f"upstreams.{name}: {error}") from None
    return replace(
        found,
        logs_in=found.logs_in or upstream.client_cert is not None,
        counts_pulls=_counts(name, upstream),
        repository_prefix=upstream.repository_prefix,
    )


def link_of(name: str, upstream: Upstream) -> ConnectionSettings:
    """Return an upstream's link; raises ConfigurationError."""
    try:
        return conversions.link(upstream)
    except ConfigurationError as error:
        raise ConfigurationError(f"upstreams.{name}.{error}") from None


async def connected(
    stack: AsyncExitStack,
    plan: UpstreamPlan,
    on_answer: Callable[[UpstreamResponse], None],
    on_access: Callable[[str, bool], None],
) -> RegistryClient:
    """Make the client of an upstream, with unshared connections and tokens."""
    transport = await stack.enter_async_context(
        Transport(plan.origin.url, plan.timeouts, link=plan.link)
    )
    tokens = Tokens(transport, on_answer)
    stack.push_async_callback(tokens.close)
    registry = RegistryClient(plan.origin, transport, tokens, on_answer, on_access)
    stack.push_async_callback(registry.close)
    return registry
