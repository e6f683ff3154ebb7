"""One mirror for every registry: a request means one upstream, or is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import TypeAlias

import pytest

from tests.standin import Hub, Image, make_image
from tests.support.mirror import Mirror, Run

HUB, GHCR, QUAY = NAMES = ("docker.io", "ghcr.io", "quay.example:5000")
APP = "org/app"
MANIFEST = f"{APP}/manifests/1"
HOSTS = {HUB: [], GHCR: ["ghcr.mirror.example"], QUAY: ["mirror.example:5001", "10.0.0.9"]}
Offers: TypeAlias = dict[str, tuple[Hub, Image]]


@pytest.fixture
async def offers() -> AsyncIterator[Offers]:
    """A registry for each name, each with a different image as `org/app:1`."""
    async with AsyncExitStack() as stack:
        offers = {}
        for number, name in enumerate(NAMES):
            hub, image = await stack.enter_async_context(Hub()), make_image(number, [1000])
            hub.add(image, APP, "1")
            offers[name] = hub, image
        yield offers


def settings(offers: Offers, default: str = HUB) -> dict[str, object]:
    """Return the mirror's settings for these registries."""
    upstreams = {name: {"url": hub.url, "hosts": HOSTS[name]} for name, (hub, _) in offers.items()}
    return {"upstreams": upstreams, "default_upstream": default}


@pytest.fixture
async def mirror(offers: Offers, run: Run) -> AsyncIterator[Mirror]:
    """A mirror of the three registries."""
    async with run(**settings(offers)) as mirror:
        yield mirror


def asked(offers: Offers) -> list[str]:
    """Return the registries that were asked, and clear their journals."""
    names = [name for name, (hub, _) in offers.items() if hub.requests]
    for hub, _ in offers.values():
        hub.journal.clear()
    return names


@pytest.mark.parametrize(
    ("path", "host", "upstream"),
    [
        (f"/v2/{MANIFEST}", "", HUB),
        (f"/v2/{MANIFEST}?ns=ghcr.io", "", GHCR),
        (f"/v2/{MANIFEST}?ns=GHCR.IO", "", GHCR),
        (f"/v2/{MANIFEST}?ns=quay.example:5000", "", QUAY),
        (f"/v2/{MANIFEST}?ns=quay.example%3A5000", "", QUAY),
        (f"/v2/{MANIFEST}?ns=registry-1.docker.io", "ghcr.mirror.example", HUB),
        (f"/v2/ghcr.io/{MANIFEST}", "", GHCR),
        (f"/v2/quay.example:5000/{MANIFEST}", "", QUAY),
        (f"/v2/docker.io/{MANIFEST}", "ghcr.mirror.example", HUB),
        (f"/v2/index.docker.io/{MANIFEST}", "ghcr.mirror.example", HUB),
        (f"/ghcr.io/v2/{MANIFEST}", "", GHCR),
        (f"/quay.example:5000/v2/{MANIFEST}", "ghcr.mirror.example", QUAY),
        (f"/registry-1.docker.io/v2/{MANIFEST}", "ghcr.mirror.example", HUB),
        (f"/ghcr.io/v2/{MANIFEST}?ns=ghcr.io", "", GHCR),
        (f"/ghcr.io/v2/{MANIFEST}?ns=docker.io", "", HUB),
        (f"/v2/ghcr.io/{MANIFEST}?ns=ghcr.io", "", GHCR),
        (f"/v2/docker.io/{MANIFEST}?ns=index.docker.io", "", HUB),
        (f"/v2/{MANIFEST}", "ghcr.mirror.example", GHCR),
        (f"/v2/{MANIFEST}", "ghcr.mirror.example:5000", GHCR),
        (f"/v2/{MANIFEST}", "GHCR.mirror.example.:80", GHCR),
        (f"/v2/{MANIFEST}", "mirror.example:5001", QUAY),
        (f"/v2/{MANIFEST}", "mirror.example:5002", HUB),
        (f"/v2/{MANIFEST}", "mirror.example", HUB),
        (f"/v2/{MANIFEST}", "10.0.0.9", QUAY),
        (f"/v2/{MANIFEST}", "evil.example", HUB),
    ],
)
async def test_the_named_upstream_is_asked(
    offers: Offers, mirror: Mirror, path: str, host: str, upstream: str
) -> None:
    given = {"Host": host} if host else {}
    got = await mirror.ask(path, **given)
    assert (got.status, got.body) == (200, offers[upstream][1].manifest)
    assert asked(offers) == [upstream]
    _, equals, namespace = path.partition("ns=")
    confirmed = namespace.replace("%3A", ":") if equals else None
    assert got.headers.get("OCI-Namespace") == confirmed
    await mirror.ask(path, **given)
    assert asked(offers) == []


async def test_the_target_of_a_proxys_request_counts_and_not_its_own_name(
    offers: Offers, mirror: Mirror
) -> None:
    reader, writer = await asyncio.open_connection(*mirror.daemon.address)
    target = f"http://ghcr.mirror.example/v2/{MANIFEST}"
    writer.write(f"GET {target} HTTP/1.1\r\nHost: 10.0.0.9\r\nConnection: close\r\n\r\n".encode())
    assert (await reader.read()).endswith(offers[GHCR][1].manifest)
    writer.close()
    assert asked(offers) == [GHCR]


@pytest.mark.parametrize(
    "path",
    [
        f"/v2/{MANIFEST}?ns=gcr.io",
        f"/v2/{MANIFEST}?ns=169.254.169.254",
        f"/v2/{MANIFEST}?ns=ghcr.io:443",
        f"/v2/{MANIFEST}?ns=http://ghcr.io",
        f"/v2/{MANIFEST}?ns=ghcr.io/org",
        f"/v2/{MANIFEST}?ns=ghcr.io%0d%0aX:1",
        f"/v2/{MANIFEST}?ns=g%E2%84%AAcr.io",
        f"/v2/gcr.io/{MANIFEST}",
        f"/v2/GCR.io/{MANIFEST}",
        f"/v2/ghcr.io:443/{MANIFEST}",
        f"/v2/localhost/{MANIFEST}",
        f"/v2/127.0.0.1:80/{MANIFEST}",
        f"/v2/[::1]:80/{MANIFEST}",
        f"/v2/my.group/{MANIFEST}",
        f"/gcr.io/v2/{MANIFEST}",
        f"/gcr.io/v2/{MANIFEST}?ns=ghcr.io",
        f"/org/v2/{MANIFEST}",
        "/gcr.io/v2/",
        "/v2/?ns=gcr.io",
    ],
)
@pytest.mark.parametrize("host", ["", "ghcr.mirror.example"])
async def test_what_is_not_configured_is_refused_and_nobody_is_asked(
    offers: Offers, mirror: Mirror, path: str, host: str
) -> None:
    got = await mirror.ask(path, **({"Host": host} if host else {}))
    assert got.status == 404
    assert json.loads(got.body)["errors"][0]["code"] == "NAME_UNKNOWN"
    assert "OCI-Namespace" not in got.headers
    assert asked(offers) == []


@pytest.mark.parametrize(
    "path",
    [
        "/v2",
        "/v2/",
        "//v2/",
        "/ghcr.io/v2",
        "/ghcr.io//v2/",
        "/v2/ghcr.io",
        "/v2/quay.example:5000/",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_it_is_a_registry_at_every_upstreams_address(
    offers: Offers, mirror: Mirror, path: str, method: str
) -> None:
    got = await mirror.ask(path, method)
    assert (got.status, got.body) == (200, b"{}" if method == "GET" else b"")
    assert got.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
    named = await mirror.ask(f"{path}?ns=ghcr.io", method)
    assert (named.status, named.headers["OCI-Namespace"]) == (200, "ghcr.io")
    assert asked(offers) == []


@pytest.mark.parametrize(
    "path", ["//healthz", "/a/ghcr.io/v2/", "/ghcr.io/v2x/", "//a//ghcr.io//v2/"]
)
async def test_nothing_is_served_at_other_paths(mirror: Mirror, path: str) -> None:
    got = await mirror.ask(path)
    assert got.status == 404
    assert json.loads(got.body)["errors"][0]["code"] in ("UNSUPPORTED", "NAME_UNKNOWN")


@pytest.mark.parametrize(
    ("path", "upstream"),
    [
        (f"//v2/{MANIFEST}", HUB),
        (f"/v2//{MANIFEST}", HUB),
        ("/v2/org//app/manifests/1", HUB),
        ("/v2/org/app///manifests//1", HUB),
        (f"/v2/ghcr.io//{MANIFEST}", GHCR),
        (f"//ghcr.io//v2//{MANIFEST}", GHCR),
        (f"//v2/{MANIFEST}?ns=ghcr.io", GHCR),
    ],
)
async def test_slashes_in_a_row_are_one(
    offers: Offers, mirror: Mirror, path: str, upstream: str
) -> None:
    """Registries redirect to the path with one slash; clients that join paths badly need it."""
    got = await mirror.ask(path)
    assert (got.status, got.body) == (200, offers[upstream][1].manifest)
    assert asked(offers) == [upstream]


@pytest.mark.parametrize(
    ("path", "upstream"),
    [
        ("/v2/my.group/app/manifests/1?ns=ghcr.io", GHCR),
        ("/v2/ghcr.io/my.group/app/manifests/1", GHCR),
        ("/ghcr.io/v2/my.group/app/manifests/1", GHCR),
        ("/v2/quay.io/app/manifests/1?ns=ghcr.io", GHCR),
        ("/v2/docker.io/app/manifests/1?ns=ghcr.io", GHCR),
        ("/ghcr.io/v2/docker.io/app/manifests/1", GHCR),
        ("/v2/ghcr.io/docker.io/app/manifests/1", GHCR),
        ("/v2/v2/app/manifests/1", HUB),
        ("/v2/v2/manifests/1", HUB),
        ("/v2/ghcr.io/v2/manifests/1", GHCR),
        ("/v2/a.b/manifests/1", HUB),
    ],
)
async def test_with_its_upstream_named_a_repository_may_be_called_anything(
    offers: Offers, mirror: Mirror, path: str, upstream: str
) -> None:
    name = path.removeprefix("/ghcr.io").removeprefix("/v2/").partition("/manifests")[0]
    if "ns=" not in path:
        name = name.removeprefix("ghcr.io/")
    if upstream == HUB and "/" not in name:
        name = f"library/{name}"
    hub, image = offers[upstream]
    hub.add(image, name, "1")
    got = await mirror.ask(path)
    assert (got.status, got.body) == (200, image.manifest)
    assert asked(offers) == [upstream]


async def test_another_upstream_can_be_the_default(offers: Offers, run: Run) -> None:
    async with run(**settings(offers, default=GHCR)) as mirror:
        assert (await mirror.manifest(APP, "1")).body == offers[GHCR][1].manifest
        assert (await mirror.manifest(f"docker.io/{APP}", "1")).body == offers[HUB][1].manifest
        offers[GHCR][0].add(offers[GHCR][1], "nginx", "1")  # only Docker Hub has a library
        assert (await mirror.manifest("nginx", "1")).body == offers[GHCR][1].manifest


async def test_the_same_path_at_two_hosts_is_two_images(offers: Offers, mirror: Mirror) -> None:
    for _ in range(2):
        for host, upstream in (("ghcr.mirror.example", GHCR), ("10.0.0.9:1", QUAY), ("x", HUB)):
            got = await mirror.ask(f"/v2/{MANIFEST}", Host=host)
            assert got.body == offers[upstream][1].manifest


async def test_a_host_means_nothing_where_none_is_configured(offers: Offers, run: Run) -> None:
    hub, image = offers[HUB]
    async with run(upstreams={HUB: {"url": hub.url}, GHCR: {"url": offers[GHCR][0].url}}) as mirror:
        assert (await mirror.ask(f"/v2/{MANIFEST}", Host="ghcr.io")).body == image.manifest


async def test_ten_upstreams_are_kept_apart(hub: Hub, run: Run) -> None:
    async with AsyncExitStack() as stack:
        hubs = [await stack.enter_async_context(Hub()) for _ in range(10)]
        images = [make_image(number, [1000]) for number in range(10)]
        for one, image in zip(hubs, images, strict=True):
            one.add(image, APP, "1")
        upstreams = {f"r{number}.example": {"url": one.url} for number, one in enumerate(hubs)}
        async with run(upstreams=upstreams) as mirror:
            for number, image in enumerate(images):
                await mirror.pull(f"r{number}.example/{APP}", "1", image)
                other = images[number - 1]
                foreign = await mirror.blob(f"r{number}.example/{APP}", other.blobs[0].digest)
                assert foreign.status == 404
        assert [one.pulls for one in hubs] == [1] * 10
    assert hub.requests == []


@pytest.mark.parametrize(
    ("path", "host"),
    [
        (f"/v2/{APP}/tags/list?n=2", ""),
        (f"/v2/{APP}/tags/list?n=2", "ghcr.mirror.example"),
        (f"/v2/{APP}/tags/list?n=2&ns=ghcr.io", ""),
        (f"/v2/ghcr.io/{APP}/tags/list?n=2", ""),
        (f"/v2/index.docker.io/{APP}/tags/list?n=2", ""),
        (f"/ghcr.io/v2/{APP}/tags/list?n=2", ""),
        (f"/ghcr.io/v2/ghcr.io/{APP}/tags/list?n=2&ns=GHCR.io", ""),
    ],
)
async def test_pages_of_tags_follow_in_the_clients_form_of_address(
    offers: Offers, mirror: Mirror, path: str, host: str
) -> None:
    for number, (hub, image) in enumerate(offers.values()):
        for tag in ("a", "b", "c", "d"):
            hub.add(image, APP, f"{tag}{number}")
    upstream = GHCR if "ghcr" in path.lower() + host else HUB
    number = NAMES.index(upstream)
    found, before = [], path.partition("?")[0]
    while path:
        assert path.partition("?")[0] == before
        got = await mirror.ask(path, **({"Host": host} if host else {}))
        found += json.loads(got.body)["tags"]
        path = got.headers.get("Link", "").partition(">")[0].removeprefix("<")
    assert found == ["1", *(f"{tag}{number}" for tag in "abcd")]


async def test_an_error_confirms_the_upstream_that_it_is_of(offers: Offers, mirror: Mirror) -> None:
    got = await mirror.ask(f"/v2/{APP}/manifests/none?ns=ghcr.io")
    assert (got.status, got.headers["OCI-Namespace"]) == (404, "ghcr.io")
    assert asked(offers) == [GHCR]
