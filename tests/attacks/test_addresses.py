"""An upstream may not lead the mirror to addresses that only the mirror can reach.

Nothing here leaves the loopback, however broken the guard: every socket connects to 127.0.0.1,
and notes which address it was told to connect to.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address

import pytest
from aiohappyeyeballs import AddrInfoType
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from mirror.oci.errors import UpstreamMisbehaved
from mirror.oci.names import Tag
from mirror.upstream.address_policy import (
    AddressPolicy,
    AddressScope,
    follow,
    scope_of,
)
from mirror.upstream.auth.credentials import Credentials
from mirror.upstream.auth.factory import LoginSettings, origin
from mirror.upstream.auth.tokens import Tokens
from mirror.upstream.client import RegistryClient
from mirror.upstream.telemetry import UpstreamResponse
from mirror.upstream.transport import Transport

PUBLIC, OTHER = "93.184.216.34", "93.184.216.35"
SECRET = "s1gnature"


class Names(AbstractResolver):
    """A DNS of our own. A name's answers are given one after the other, the last for ever."""

    def __init__(self, **names: list[list[str]]) -> None:
        self.names = {name.replace("_", "."): answers for name, answers in names.items()}
        self.asked: list[str] = []

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002 - answers are what they are
    ) -> list[ResolveResult]:
        """Give the next answer."""
        self.asked.append(host)
        answers = self.names[host.rstrip(".")]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return [_result(host, port, address) for address in answer]

    async def close(self) -> None:
        """Do nothing."""


def _result(host: str, port: int, address: str) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(
        hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST
    )


@dataclass
class Wires:
    """Sockets that go to the loopback. `told` are the addresses that they were made for."""

    told: list[str] = field(default_factory=list)

    def __call__(self, info: AddrInfoType) -> socket.socket:
        """Make a socket for an address."""
        wires = self

        class Bent(socket.socket):
            def connect(self, address: tuple[str, int]) -> None:  # type: ignore[override]
                wires.told.append(address[0])
                super().connect(("127.0.0.1", address[1]))

        bent = Bent(socket.AF_INET, info[1], info[2])
        bent.setblocking(False)
        return bent


@dataclass
class Site:
    """A server that redirects `/start` to `location`, and notes the requests."""

    location: str = ""
    port: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    seen: list[web.BaseRequest] = field(default_factory=list)

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Answer."""
        self.seen.append(request)
        if request.path in ("/start", "/loop"):
            return web.Response(status=307, headers={"Location": self.location})
        return web.Response(status=self.status, headers=self.headers, text="{}")


@asynccontextmanager
async def serving(site: Site) -> AsyncIterator[Site]:
    """Serve a site on a free port of the loopback."""
    runner = web.ServerRunner(web.Server(site.handle))
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    site.port = listener.getsockname()[1]
    await web.SockSite(runner, listener).start()
    try:
        yield site
    finally:
        await runner.cleanup()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A server on the loopback, which is every address here."""
    async with serving(Site()) as site:
        yield site


async def ask(wire: Transport, url: str, **headers: str) -> int:
    """Ask through a wire; returns the status."""
    async with await wire.ask("GET", URL(url), headers, lambda _answer, _seconds: None) as answer:
        return answer.status


async def redirected(site: Site, names: Names, location: str) -> tuple[list[str], str]:
    """Have a public upstream redirect; returns the connected addresses, and the refusal if any."""
    site.location = location.replace("PORT", str(site.port))
    own, sockets = f"http://registry.example:{site.port}", Wires()
    names.names.setdefault("registry.example", [[PUBLIC]])
    async with Transport(URL(own), resolver=names, sockets=sockets) as wire:
        try:
            await ask(wire, f"{own}/start")
        except UpstreamMisbehaved as error:
            return sockets.told, error.message
    return sockets.told, ""


async def refuses(site: Site, host: str, *answers: str) -> None:
    """Show that a public upstream's redirect to this host connects to nothing."""
    names = Names(inside_example=[list(answers)])
    told, refusal = await redirected(site, names, f"http://{host}:PORT/x?sig={SECRET}")
    assert told == [PUBLIC]
    assert refusal
    assert SECRET not in refusal


async def test_a_public_redirect_is_followed(site: Site) -> None:
    told, refusal = await redirected(
        site, Names(cdn_example=[[OTHER]]), "http://cdn.example:PORT/blob"
    )
    assert (told, refusal) == ([PUBLIC, OTHER], "")


METADATA = [
    *("169.254.169.254", "100.100.100.200", "192.0.0.192", "168.63.129.16"),
    *("fd00:ec2::254", "fd00:ec2::23", "fd00:ec2:1::1", "fd20:ce::254", "fd00:42::42"),
    *("::ffff:169.254.169.254", "::ffff:0:a9fe:a9fe", "2002:a9fe:a9fe::1", "64:ff9b::a9fe:a9fe"),
    *("64:ff9b:1::a9fe:a9fe", "64:ff9b:1:a9fe:a9:fe00::", "64:ff9b:1:a9:fe:a9fe::"),
    "64:ff9b:1:0:a9:fea9:fe00::",
]
INSIDE = [
    *METADATA,
    *("127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::"),
    *("10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fc00::1", "fec0::1"),
    *("169.254.1.1", "fe80::1", "224.0.0.1", "ff02::1", "255.255.255.255"),
    *("::ffff:127.0.0.1", "::ffff:0:127.0.0.1", "::127.0.0.1"),
    *("2002:7f00:1::", "64:ff9b::10.0.0.1", "64:ff9b:1::a00:1"),
]


@pytest.mark.parametrize("address", INSIDE)
async def test_a_redirect_to_an_address_inside_is_refused(site: Site, address: str) -> None:
    await refuses(site, f"[{address}]" if ":" in address else address)


@pytest.mark.parametrize("address", INSIDE)
async def test_a_redirect_to_a_name_of_an_address_inside_is_refused(
    site: Site, address: str
) -> None:
    await refuses(site, "inside.example", address)


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0x7f.1", "127.1", "017700000001"])
async def test_an_address_in_an_odd_form_is_refused(site: Site, host: str) -> None:
    await refuses(site, host)


@pytest.mark.parametrize("host", ["a%20b", "a%00", "a" * 300, "a!", "a%0ab"])
async def test_what_is_no_name_is_refused_and_not_repeated_as_it_is(site: Site, host: str) -> None:
    told, refusal = await redirected(site, Names(), f"http://{host}:PORT/x")
    assert told == [PUBLIC]
    assert refusal.isprintable()
    assert len(refusal) < 200


@pytest.mark.parametrize("host", ["[fe80::1%25lo]", "[fe80::1%lo]", "[2606:4700::1%25lo]"])
async def test_an_address_with_a_zone_is_refused(site: Site, host: str) -> None:
    await refuses(site, host)


async def test_what_was_checked_is_what_is_connected_to(site: Site) -> None:
    names = Names(cdn_example=[[OTHER], ["127.0.0.1"]])
    told, refusal = await redirected(site, names, "http://cdn.example:PORT/blob")
    assert (told, refusal) == ([PUBLIC, OTHER], "")
    assert names.asked.count("cdn.example") == 1  # nobody asked twice for another answer


async def test_of_mixed_answers_only_the_public_are_connected_to(site: Site) -> None:
    names = Names(cdn_example=[["127.0.0.1", "10.0.0.1", OTHER, "::1"]])
    told, _ = await redirected(site, names, "http://cdn.example:PORT/blob")
    assert told == [PUBLIC, OTHER]


async def renamed(site: Site, *answers: str) -> tuple[list[str], str]:
    """Have an upstream redirect to its own name, which is resolved anew: with a dot behind it."""
    names = Names(registry_example=[answer.split() for answer in answers])
    return await redirected(site, names, "http://registry.example.:PORT/latest/meta-data/")


@pytest.mark.parametrize("address", [*METADATA, "127.0.0.1", "10.0.0.1", "fc00::1"])
async def test_a_public_upstreams_own_name_does_not_turn_inward(site: Site, address: str) -> None:
    told, refusal = await renamed(site, PUBLIC, address)
    assert (told, "registry.example" in refusal) == ([PUBLIC], True)
    assert [seen.path for seen in site.seen] == ["/start"]


@pytest.mark.parametrize("address", METADATA)
async def test_no_name_leads_to_where_machines_are_told_their_secrets(
    site: Site, address: str
) -> None:
    """The operator's own address is refused too, although it may be inside."""
    told, refusal = await renamed(site, address)
    assert (told, "registry.example" in refusal) == ([], True)
    told, refusal = await renamed(site, "10.0.0.1", address)
    assert (told, "registry.example" in refusal) == (["10.0.0.1"], True)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("10.0.0.1", "10.0.0.2"),
        ("10.0.0.1", OTHER),
        (f"{PUBLIC} 10.0.0.1", "10.0.0.2"),  # inside and outside at once: a split horizon
        (PUBLIC, OTHER),
        (PUBLIC, f"10.0.0.1 {OTHER}"),
    ],
)
async def test_an_upstreams_own_name_may_lie_where_it_lay_at_first_or_outside(
    site: Site, first: str, then: str
) -> None:
    told, refusal = await renamed(site, first, then)
    assert (told, refusal) == ([first.split(maxsplit=1)[0], then.rsplit(maxsplit=1)[-1]], "")


def test_an_upstream_that_was_public_stays_so_when_its_name_turns_inward() -> None:
    guard, name = AddressPolicy(URL("https://registry.example")), "registry.example"
    guard.choose(name, 443, [_result(name, 443, PUBLIC)])
    with pytest.raises(UpstreamMisbehaved):
        guard.choose(name, 443, [_result(name, 443, "10.0.0.1")])
    assert not _passes(guard, "https://10.0.0.2/")


def test_an_upstream_of_which_some_is_public_leads_nowhere_inside() -> None:
    guard, name = AddressPolicy(URL("https://registry.example")), "registry.example"
    found = [_result(name, 443, address) for address in (PUBLIC, "10.0.0.1")]
    assert guard.choose(name, 443, found) == found
    assert not _passes(guard, "https://10.0.0.2/")


async def test_its_own_name_leads_inside_on_no_other_port(site: Site) -> None:
    names = Names(registry_example=[[PUBLIC], ["127.0.0.1"]])
    async with serving(Site()) as inside:
        told, refusal = await redirected(
            site, names, f"http://registry.example:{inside.port}/admin"
        )
        assert (told, bool(refusal)) == ([PUBLIC], True)
        assert inside.seen == []


async def test_a_token_server_inside_is_refused(site: Site) -> None:
    own = URL(f"http://registry.example:{site.port}")
    names = Names(registry_example=[[PUBLIC]], auth_example=[["10.0.0.1"]])
    site.status = 401
    site.headers = {"WWW-Authenticate": f'Bearer realm="http://auth.example:{site.port}/token"'}
    sockets = Wires()
    async with Transport(own, resolver=names, sockets=sockets) as wire:
        with pytest.raises(UpstreamMisbehaved, match=r"auth\.example"):
            await registry(wire, own).get_manifest("library/nginx", Tag("latest"), heard)
    assert sockets.told == [PUBLIC]


def heard(_answer: UpstreamResponse) -> None:
    """Connections are not counted here."""


def registry(wire: Transport, own: URL) -> RegistryClient:
    """Return a registry that is asked anonymously."""
    ways = LoginSettings("auto", Credentials("", ""), None, None, (), "")
    return RegistryClient(origin("docker.io", own, ways), wire, Tokens(wire, heard), heard)


@pytest.mark.parametrize(
    ("link", "query"),
    [
        ("http://evil.example/v2/a/tags/list?last=x", "last=x"),
        ("//evil.example/?last=x", "last=x"),
        ("http://169.254.169.254/latest?next_page=x", "next_page=x"),
        ("mailto:a?last=x", "last=x"),
    ],
)
async def test_of_a_link_to_another_origin_the_query_is_taken_and_nothing_else(
    site: Site, link: str, query: str
) -> None:
    """Registries behind a proxy name themselves by a name of their own."""
    own = URL(f"http://127.0.0.1:{site.port}")
    site.headers = {"Link": f'<{link}>; rel="next"'}
    async with Transport(own) as wire:
        page = await registry(wire, own).get_page("tags", "library/nginx", "tags/list")
    assert page.following is not None
    assert page.following.query() == query


@pytest.mark.parametrize(
    "target",
    [
        "http://[broken",
        "http://evil.example/v2/a/tags/page2",
        "?",
        "?last=a%26n%3D1",
        "?last=%0d%0aX-Injected:1",
        "?last=%ff",
        "?last=" + "a" * 5000,
        "?n=x&last=a",
        "?a%0d=b",
        "?" + "&".join(f"f{number}=1" for number in range(9)),
    ],
)
async def test_a_link_that_cannot_be_carried_is_an_honest_error(site: Site, target: str) -> None:
    own = URL(f"http://127.0.0.1:{site.port}")
    site.headers = {"Link": f'<{target}>; rel="next"'}
    async with Transport(own) as wire:
        with pytest.raises(UpstreamMisbehaved, match="Link"):
            await registry(wire, own).get_page("tags", "library/nginx", "tags/list")


@pytest.mark.parametrize(
    "location", ["http://registry.example/", "HTTP://cdn.example/x", "ftp://a/", "file:///etc", ""]
)
def test_https_is_never_left(location: str) -> None:
    with pytest.raises(UpstreamMisbehaved):
        follow(URL("https://registry.example/v2/"), location)


async def test_the_sixth_redirect_is_not_followed(site: Site) -> None:
    site.location = "/loop"
    own = f"http://127.0.0.1:{site.port}"
    async with Transport(URL(own)) as wire:
        with pytest.raises(UpstreamMisbehaved, match="more than 5"):
            await ask(wire, f"{own}/start")
    assert len(site.seen) == 6


async def test_authorization_does_not_go_to_another_port_of_the_same_host(site: Site) -> None:
    own = f"http://127.0.0.1:{site.port}"
    async with serving(Site()) as other, Transport(URL(own)) as wire:
        site.location = f"http://127.0.0.1:{other.port}/blob"
        assert await ask(wire, f"{own}/start", Authorization="Basic c2VjcmV0") == 200
        assert "Authorization" in site.seen[0].headers
        assert "Authorization" not in other.seen[0].headers


@pytest.mark.parametrize(
    ("own", "target", "allowed"),
    [
        ("http://10.0.0.1:5000", "http://10.0.0.2/", True),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5001/", True),
        ("http://10.0.0.1:5000", "https://93.184.216.34/", True),
        ("http://10.0.0.1:5000", "http://169.254.169.254/", False),
        ("http://10.0.0.1:5000", "http://[64:ff9b:1::a00:1]/", True),
        *(("http://10.0.0.1:5000", f"http://[{each}]/", False) for each in METADATA if ":" in each),
        ("http://169.254.1.1:5000", "http://169.254.1.2/", True),
        ("http://169.254.1.1:5000", "http://10.0.0.1/", True),
        ("http://93.184.216.34", "http://10.0.0.1/", False),
        ("http://nobody.asked.yet", "http://10.0.0.1/", False),
    ],
)
def test_an_upstream_inside_may_stay_there(own: str, target: str, *, allowed: bool) -> None:
    guard = AddressPolicy(URL(own))
    assert _passes(guard, target) == allowed
    assert _passes(guard, own)


def _passes(guard: AddressPolicy, target: str) -> bool:
    try:
        guard.check(URL(target))
    except UpstreamMisbehaved:
        return False
    return True


def test_an_address_lies_where_the_one_it_wraps_does() -> None:
    wrapped: Iterable[str] = ("64:ff9b::5db8:d822", "::ffff:93.184.216.34", "2002:5db8:d822::")
    assert {scope_of(ip_address(each)) for each in wrapped} == {AddressScope.PUBLIC}
