"""A bearer token is fetched once for all requests that wait, and used no longer than it lasts."""

from __future__ import annotations

import asyncio

import pytest
from yarl import URL

from mirror.upstream.auth.credentials import ANONYMOUS
from mirror.upstream.auth.token_exchange import TokenKey
from mirror.upstream.auth.tokens import Tokens
from mirror.upstream.transport import Transport
from tests.standin import Hub
from tests.support.clock import Clock

REPOSITORY = "library/nginx"


@pytest.fixture
def key(hub: Hub) -> TokenKey:
    """The key of a token of the hub's own token server."""
    scope = f"repository:{REPOSITORY}:pull"
    return TokenKey(hub.realm, hub.terms.service, scope, ANONYMOUS)


@pytest.mark.parametrize(("life", "used"), [(1000, 800), (60, 48), (10**6, 2880)])
async def test_a_token_is_used_for_four_fifths_of_its_life_and_no_longer(
    hub: Hub, key: TokenKey, life: float, used: float
) -> None:
    """A claimed life of more than an hour counts as one hour."""
    hub.terms.token_life = life
    clock = Clock()
    async with Transport(URL(hub.url)) as wire:
        tokens = Tokens(wire, lambda _: None, clock)
        first = await tokens.get(key, "docker.io")
        clock.now = used - 1
        assert await tokens.get(key, "docker.io") is first
        clock.now = used + 1
        assert await tokens.get(key, "docker.io") is not first
    assert hub.count(kind="token") == 2


async def test_a_token_is_fetched_once_however_many_wait(hub: Hub, key: TokenKey) -> None:
    async with Transport(URL(hub.url)) as wire:
        tokens = Tokens(wire, lambda _: None, Clock())
        got = await asyncio.gather(*(tokens.get(key, "docker.io") for _ in range(20)))
    assert len(set(got)) == 1
    assert hub.count(kind="token") == 1


async def test_a_refused_token_is_forgotten_unless_it_was_replaced_already(
    hub: Hub, key: TokenKey
) -> None:
    async with Transport(URL(hub.url)) as wire:
        tokens = Tokens(wire, lambda _: None, Clock())
        first = await tokens.get(key, "docker.io")
        tokens.drop(key, first)
        second = await tokens.get(key, "docker.io")
        tokens.drop(key, first)
        assert await tokens.get(key, "docker.io") is second
    assert second is not first
