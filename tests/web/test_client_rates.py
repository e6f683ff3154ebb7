"""A client's requests and wrong logins are bounded, without a bound for any other client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from mirror.identity.address import one_client
from mirror.oci.errors import ClientTooFast, NotAllowed
from mirror.web.auth.authenticator import Authenticator
from mirror.web.auth.browsers import Browsers
from mirror.web.auth.htpasswd import Htpasswd
from mirror.web.auth.request_rate import RequestRates
from tests.standin import Image
from tests.support.mirror import Mirror, Run
from tests.support.waiting import until
from tests.web.test_client_logins import (
    PATH,
    TOKEN,
    WORD,
    add,
    ask,
    basic,
    clients,
    hashed,
    users,
)

__all__ = ["users"]

ANY = Browsers((), strict=False)


async def test_whoever_guesses_is_held_off_and_others_are_not(
    run: Run, image: Image, users: Path
) -> None:
    async with run(htpasswd=users, clients=clients()) as mirror:
        assert (await ask(mirror, basic("alice", WORD))).status == 200
        logins = [basic("alice", f"guess {number}") for number in range(60)]
        got = await asyncio.gather(*(ask(mirror, login) for login in logins))
        assert sorted({each.status for each in got}) == [403, 429]
        assert sum(each.status == 403 for each in got) <= 20
        refused = next(each for each in got if each.status == 429)
        assert int(refused.headers["Retry-After"]) > 0
        # Known logins go on, from this address too.
        assert (await ask(mirror, f"Bearer {TOKEN}")).status == 200
        assert (await mirror.ask_from("127.0.0.9", PATH)).status == 200


async def test_a_guessed_token_is_as_wrong_as_a_password(run: Run, image: Image) -> None:
    async with run(clients=clients()) as mirror:
        for number in range(10):
            assert (await ask(mirror, f"Bearer guess-{number}")).status == 403
            assert (await ask(mirror, basic("ci", f"guess-{number}"))).status == 403
        for login in ("Bearer guess", basic("ci", "guess"), "Digest x"):
            assert (await ask(mirror, login)).status == 429
        assert (await ask(mirror, f"Bearer {TOKEN}")).status == 200
        assert (await mirror.ask(PATH)).status == 200


async def test_guessing_locks_nobody_out_who_was_right_of_late(
    run: Run, image: Image, users: Path
) -> None:
    """A change of the file locks that user out only if it changes the user's own line."""
    async with run(htpasswd=users) as mirror:
        assert (await ask(mirror, basic("alice", WORD))).status == 200
        for number in range(20):
            assert (await ask(mirror, basic("alice", f"guess {number}"))).status == 403
        add(users, "bob", hashed(WORD))
        await until(lambda: _knows_bob(mirror))
        assert (await ask(mirror, basic("bob", WORD + "!"))).status == 429
        assert (await ask(mirror, basic("alice", WORD))).status == 200


async def _knows_bob(mirror: Mirror) -> bool:
    bob = basic("bob", WORD)
    return (await mirror.ask_from("127.0.0.9", PATH, Authorization=bob)).status == 200


async def test_logins_that_are_checked_at_once_are_bounded(users: Path) -> None:
    file = Htpasswd(users)
    asked = (file.check("alice", f"guess {number}") for number in range(100))
    got = await asyncio.gather(*asked, return_exceptions=True)
    assert got.count(False) == 64
    assert sum(isinstance(each, ClientTooFast) for each in got) == 36
    assert await file.check("alice", WORD)
    await file.close()


async def test_a_login_that_was_not_looked_at_is_no_wrong_one(users: Path) -> None:
    file = Htpasswd(users)
    known = Authenticator({}, file, RequestRates(0), anonymous=None, challenge=False, browsers=ANY)
    crowd = [
        known.identify(of(f"10.0.0.{number}", basic("a", f"{number}"))) for number in range(64)
    ]
    late = [known.identify(of("10.0.1.1", basic("b", f"{number}"))) for number in range(30)]
    got = await asyncio.gather(*crowd, *late, return_exceptions=True)
    assert all(isinstance(each, ClientTooFast) for each in got[64:])
    assert (await known.identify(of("10.0.1.1", basic("alice", WORD)))).name == "alice"
    await file.close()


def of(address: str, login: str | None = None) -> web.BaseRequest:
    """A request from an address."""
    headers = {} if login is None else {"Authorization": login}
    return make_mocked_request("GET", "/v2/", headers).clone(remote=address)


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_a_network_of_ipv6_is_one_client(address: str, client: str) -> None:
    assert one_client(address) == client


async def test_no_client_is_many_because_it_has_many_addresses(users: Path) -> None:
    file = Htpasswd(users)
    known = Authenticator({}, file, RequestRates(1), anonymous=None, challenge=False, browsers=ANY)
    for number in range(10):
        await known.identify(of(f"2001:db8::{number}"))
    with pytest.raises(ClientTooFast, match="requests a second"):
        await known.identify(of("2001:db8::10"))
    assert (await known.identify(of("2001:db8:0:1::1"))).address == "2001:db8:0:1::1"
    known = Authenticator({}, file, RequestRates(0), anonymous=None, challenge=False, browsers=ANY)
    for number in range(20):
        with pytest.raises(NotAllowed):
            await known.identify(of(f"2001:db8::{number}", basic("alice", f"guess {number}")))
    with pytest.raises(ClientTooFast, match="wrong logins"):
        await known.identify(of("2001:db8::21", basic("alice", WORD)))
    await file.close()


@pytest.mark.parametrize("login", ["", "Bearer no", basic("alice", "no"), basic("ci", "no")])
async def test_a_login_that_is_wrong_is_bounded_like_any_request(
    run: Run, users: Path, login: str
) -> None:
    """A request that names no content is bounded, too: it costs as much to read."""
    path = PATH if login else "/v2/UPPER/manifests/latest"
    async with run(client_rate=0.5, clients=clients(), htpasswd=users) as mirror:
        headers = {"Authorization": login} if login else {}
        got = [(await mirror.ask(path, **headers)).status for _ in range(6)]
        assert got == [403 if login else 400] * 5 + [429]
        assert (await mirror.ask(path, "POST")).status == 429
        assert (await mirror.ask("/readyz")).status == 200


async def test_a_request_counts_once_by_name_where_that_costs_nothing(
    run: Run, users: Path
) -> None:
    async with run(client_rate=0.5, htpasswd=users) as mirror:
        login = basic("alice", WORD)
        got = [(await mirror.ask("/v2/", Authorization=login)).status for _ in range(7)]
        assert got == [200] * 6 + [429]  # the first, which had to be checked, by address
        assert [(await mirror.ask("/v2/")).status for _ in range(5)] == [200] * 4 + [429]


async def test_one_client_is_bounded_and_the_others_are_not(run: Run, image: Image) -> None:
    async with run(client_rate=0.5, clients=clients()) as mirror:
        got = [await mirror.ask("/v2/") for _ in range(6)]
        assert [each.status for each in got] == [200] * 5 + [429]
        assert b"requests a second from one client" in got[-1].body
        assert 0 < int(got[-1].headers["Retry-After"]) <= 2
        assert (await mirror.ask("/healthz")).status == 200
        assert (await ask(mirror, f"Bearer {TOKEN}")).status == 200
        assert (await mirror.ask_from("127.0.0.9", PATH)).status == 200


def test_a_rate_lets_so_many_through_in_the_long_run() -> None:
    clock: Iterator[int] = iter(range(10_000))
    rates = RequestRates(0.25, lambda: float(next(clock)))
    let = 0
    for _ in range(4000):
        try:
            rates.take("one")
            let += 1
        except ClientTooFast:
            continue
    assert 1000 <= let <= 1003
