"""The catalog: stored repositories, by their names for pulls, as far as a client may read them."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from mirror.content import repositories
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from tests.access.test_access import (
    PUBLIC,
    SECRET,
    account,
    secret,
)
from tests.attacks.steps import MOST, steps
from tests.standin import Hub, Image, Terms
from tests.support.mirror import Mirror, Run
from tests.web.test_client_logins import TOKEN, clients

__all__ = ["secret"]

CATALOG = "/v2/_catalog"
GHCR = "ghcr.io"


async def listed(mirror: Mirror, path: str = CATALOG, **headers: str) -> list[str]:
    """Return the names of all pages."""
    names: list[str] = []
    while path:
        got = await mirror.ask(path, **headers)
        assert got.status == 200
        assert got.headers["Content-Type"] == "application/json"
        document = json.loads(got.body)
        assert document.keys() == {"repositories"}
        names += document["repositories"]
        link = got.headers.get("Link", "")
        path = link.removeprefix("<").removesuffix('>; rel="next"')
    return names


def keep(mirror: Mirror, *repositories: Repository) -> None:
    """Enter stored content for each repository."""
    for number, each in enumerate(repositories):
        mirror.stored.enter(Digest(f"sha256:{number:064x}"), each)


async def test_stored_content_is_listed_and_nothing_else(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    hub.add(image, "library/other", "latest")
    assert await listed(mirror) == []
    await mirror.pull("library/nginx", "latest", image)
    assert (await mirror.manifest("library/other", "missing")).status == 404
    hub.journal.clear()
    assert await listed(mirror) == ["library/nginx"]
    assert hub.requests == []
    head = await mirror.ask(CATALOG, "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.cache == "detail=own"


async def test_pages_are_as_long_as_they_are_wanted(mirror: Mirror) -> None:
    names = [f"team/app-{number:04}" for number in range(1500)]
    keep(mirror, *(Repository("docker.io", name) for name in reversed(names)))
    got = await mirror.ask(f"{CATALOG}?n=2&last=team/app-0007")
    assert json.loads(got.body) == {"repositories": ["team/app-0008", "team/app-0009"]}
    assert got.headers["Link"] == '</v2/_catalog?n=2&last=team/app-0009>; rel="next"'
    assert await listed(mirror) == names
    assert len(json.loads((await mirror.ask(CATALOG)).body)["repositories"]) == 1000
    assert await listed(mirror, f"{CATALOG}?n=7&last=team/app-1490") == names[1491:]
    assert json.loads((await mirror.ask(f"{CATALOG}?n=0")).body)["repositories"] == []
    assert "Link" not in (await mirror.ask(f"{CATALOG}?last=zzz")).headers


async def test_each_name_is_one_to_pull_by(hub: Hub, run: Run, image: Image) -> None:
    """Listed names are pulled in the way that the list was asked for: by path, `ns` or Host."""
    async with Hub(Terms()) as ghcr:
        hub.add(image, "a.b/app", "latest")
        ghcr.add(image, "org/app", "latest")
        ghcr.add(image, "a.b/app", "latest")
        upstreams = {
            "docker.io": {"url": hub.url},
            GHCR: {"url": ghcr.url, "hosts": ["ghcr.mirror.example"]},
        }
        async with run(upstreams=upstreams) as mirror:
            await mirror.pull("library/nginx", "latest", image)
            for name in ("docker.io/a.b/app", f"{GHCR}/org/app", f"{GHCR}/a.b/app"):
                await mirror.pull(name, "latest", image)
            of_ghcr = [f"{GHCR}/a.b/app", "org/app"]
            ways = {
                ("/v2/", "", ""): [
                    "docker.io/a.b/app", f"{GHCR}/a.b/app", f"{GHCR}/org/app", "library/nginx"
                ],
                ("/v2/", f"ns={GHCR}", ""): of_ghcr,
                (f"/{GHCR}/v2/", "", ""): of_ghcr,
                ("/v2/", "ns=docker.io", ""): ["docker.io/a.b/app", "library/nginx"],
                ("/v2/", "", "ghcr.mirror.example"): [
                    "docker.io/a.b/app", "docker.io/library/nginx", f"{GHCR}/a.b/app", "org/app"
                ],
            }  # fmt: skip
            hub.journal.clear()
            ghcr.journal.clear()
            for (base, query, host), names in ways.items():
                headers = {"Host": host} if host else {}
                assert await listed(mirror, f"{base}_catalog?{query}", **headers) == names
                paged = await listed(mirror, f"{base}_catalog?n=1&{query}", **headers)
                assert paged == names
                for name in names:
                    path = f"{base}{name}/manifests/latest?{query}"
                    assert (await mirror.ask(path, **headers)).body == image.manifest
            assert (hub.requests, ghcr.requests) == ([], [])


async def test_the_next_page_is_of_the_same_upstream(run: Run, hub: Hub) -> None:
    upstreams = {"docker.io": {"url": hub.url}, GHCR: {"url": hub.url}}
    async with run(upstreams=upstreams) as mirror:
        keep(mirror, *(Repository(GHCR, f"org/{name}") for name in "abc"))
        got = await mirror.ask(f"/{GHCR}/v2/_catalog?n=1&ns={GHCR}")
        assert got.headers["OCI-Namespace"] == GHCR
        target = urlsplit(got.headers["Link"].split(">")[0][1:])
        assert target.path == f"/{GHCR}/v2/_catalog"
        assert parse_qs(target.query) == {"n": ["1"], "last": ["org/a"], "ns": [GHCR]}


async def test_a_client_is_told_of_what_it_may_read_alone(
    hub: Hub, run: Run, secret: Image, image: Image
) -> None:
    everyone = account(hub, private="everyone")
    async with run(upstreams=everyone) as mirror:
        await mirror.pull(SECRET, "latest", secret)
        await mirror.pull(PUBLIC, "latest", image)
        assert await listed(mirror) == [PUBLIC, SECRET]
    named = clients()
    async with run(upstreams=account(hub), clients=named) as mirror:
        bearer = f"Bearer {TOKEN}"
        assert await listed(mirror, Authorization=bearer) == [PUBLIC, SECRET]
        hub.journal.clear()
        assert await listed(mirror) == []  # no repository is known as public yet
        assert hub.requests == []
        assert (await mirror.manifest(PUBLIC, "latest")).status == 200
        assert (await mirror.manifest(SECRET, "latest")).status == 403
        assert await listed(mirror) == [PUBLIC]
    async with run(upstreams=account(hub, deny=["library/*"]), clients=named) as mirror:
        assert await listed(mirror, Authorization=bearer) == [SECRET]
    async with run(upstreams=account(hub, allow=["library/*"]), clients=named) as mirror:
        assert await listed(mirror, Authorization=bearer) == [PUBLIC]
    bounded = {"ci": {"token": TOKEN, "allow": ["team/**"]}}
    async with run(upstreams=account(hub), clients=bounded) as mirror:
        assert await listed(mirror, Authorization=bearer) == [SECRET]


@pytest.mark.parametrize("anonymous", [[], ["library/*"]])
async def test_strangers_are_told_what_they_may_read(
    run: Run, hub: Hub, anonymous: list[str]
) -> None:
    async with run(clients=clients(), anonymous=anonymous) as mirror:
        keep(mirror, Repository("docker.io", PUBLIC), Repository("docker.io", "org/app"))
        assert await listed(mirror) == [PUBLIC] * len(anonymous)
        assert await listed(mirror, Authorization=f"Bearer {TOKEN}") == [PUBLIC, "org/app"]
    async with run(clients=clients(), challenge=True) as mirror:
        keep(mirror, Repository("docker.io", PUBLIC))
        assert (await mirror.ask(CATALOG)).status == 401


async def test_a_list_of_any_length_is_made_once_for_all_its_pages(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making a list of a million names takes a thread seconds, and would for each page."""
    monkeypatch.setattr(repositories, "_KEPT", 500)
    monkeypatch.setattr(repositories, "_INSTANT", 0)
    monkeypatch.setattr(repositories, "_TIMES", 1e9)  # a list stays good while this test runs
    async with run() as mirror:
        keep(mirror, *(Repository("docker.io", f"team/app-{number:04}") for number in range(2000)))
        before = await listed(mirror, f"{CATALOG}?n=1000")
        keep(mirror, *(Repository("docker.io", f"team/new-{number:04}") for number in range(2000)))
        assert await listed(mirror, f"{CATALOG}?n=1000") == before
        assert len(await listed(mirror, f"{CATALOG}?n=1000&ns=docker.io")) == 4000
        assert len(await listed(mirror, f"{CATALOG}?n=1000")) == 4000  # one list is remembered


async def test_a_long_list_that_is_freed_does_not_block_the_loop(
    run: Run, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Freeing all names at once would block the loop, in any step that drops the last reference."""
    monkeypatch.setattr(repositories, "_KEPT", 1000)
    monkeypatch.setattr(repositories, "_TIMES", 1e9)
    upstreams = {"docker.io": {"url": hub.url}, GHCR: {"url": hub.url}}
    async with run(upstreams=upstreams) as mirror:
        keep(mirror, *(Repository(GHCR, f"team/app-{number}") for number in range(250_000)))
        with steps() as longest:
            for path in (CATALOG, f"{CATALOG}?ns={GHCR}", CATALOG, f"{CATALOG}?ns={GHCR}"):
                assert (await mirror.ask(path)).status == 200
        assert longest.turn < MOST / 4, longest.what


async def test_a_list_of_100000_repositories_holds_nobody_up(
    run: Run, hub: Hub, capfd: pytest.CaptureFixture[str]
) -> None:
    names = [f"team-{number % 977}/app-{number}" for number in range(100_000)]
    async with run(upstreams={"docker.io": {"url": hub.url, "deny": ["none/**"]}}) as mirror:
        keep(mirror, *(Repository("docker.io", name) for name in names))
        with steps() as longest:
            assert (await mirror.ask(f"{CATALOG}?n=1000&last=team-5")).status == 200
            assert (await mirror.ask(f"{CATALOG}?n=1000&last=team-6")).status == 200
        assert longest.seconds < MOST, longest.what
        assert len(await listed(mirror)) == len(names)
    took = [line for line in capfd.readouterr().err.splitlines() if "kind=catalog" in line]
    assert len(took) == 102
