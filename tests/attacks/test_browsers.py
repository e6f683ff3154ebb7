"""A web page can have its reader's browser do nothing with the mirror."""

from __future__ import annotations

import socket

import pytest

from tests.standin import Hub, Image
from tests.support.mirror import Run

MANIFEST = "/v2/library/nginx/manifests/latest"
BROWSER = {"Accept_Language": "de"}


@pytest.mark.parametrize("path", [MANIFEST, "/v2/", "/metrics", "/healthz", "/v2/NO/tags/list"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "something-new"},
    ],
    ids=str,
)
async def test_a_page_of_another_site_is_refused_before_anything_is_asked(
    hub: Hub, run: Run, image: Image, path: str, headers: dict[str, str]
) -> None:
    async with run() as mirror:
        for method in ("GET", "HEAD", "OPTIONS"):
            got = await mirror.ask(path, method, **headers)
            assert got.status == 403
            assert "Access-Control-Allow-Origin" not in got.headers
    assert hub.requests == []


@pytest.mark.parametrize("site", ["none", "same-origin"])
async def test_who_opens_a_page_of_the_mirrors_own_gets_it(
    run: Run, image: Image, site: str
) -> None:
    async with run() as mirror:
        for path in ("/metrics", "/healthz", MANIFEST):
            assert (await mirror.ask(path, Sec_Fetch_Site=site, **BROWSER)).status == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:5000", "127.0.0.1.evil.example"])
async def test_a_page_whose_name_was_made_to_mean_the_mirror_reads_nothing(
    hub: Hub, run: Run, image: Image, host: str
) -> None:
    async with run() as mirror:
        for path in (MANIFEST, "/v2/", "/metrics", "/v2/evil.example/a/tags/list"):
            got = await mirror.ask(path, Host=host, **BROWSER)
            assert got.status == 403
            assert b"docker.io" not in got.body
        assert (await mirror.ask("/healthz", Host=host, **BROWSER)).status == 200
    assert hub.requests == []


@pytest.mark.parametrize(
    "host", ["mirror.example", "mirror:5000", "127.0.0.1", "[::1]:5000", "localhost:1", "a_b"]
)
async def test_a_client_may_use_any_name_unless_some_are_named(
    run: Run, image: Image, host: str
) -> None:
    """A mirror behind a front, or in a cluster, has names that it does not know."""
    async with run() as mirror:
        assert (await mirror.ask(MANIFEST, Host=host)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Accept_Language": "*", "Sec_Fetch_Mode": "cors", "Accept_Encoding": "gzip, deflate"},
        {"Accept_Language": "*", "Accept_Encoding": "gzip,br"},
        {"Connection": "keep-alive", "Accept_Encoding": "gzip, deflate, br, zstd"},
        {"Accept": "text/html, image/gif, image/jpeg, */*; q=.2"},
        {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2_Settings": "AAEAAEAA"},
    ],
    ids=["Node", "Deno", "Bun", "Java's older", "Java's"],
)
async def test_what_runs_scripts_is_no_browser(
    run: Run, image: Image, headers: dict[str, str]
) -> None:
    async with run() as mirror:
        for path in (MANIFEST, "/v2/", "/metrics"):
            assert (await mirror.ask(path, Host="mirror.example:5000", **headers)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Accept_Language": "*", "Accept_Encoding": "gzip, deflate"},  # as its page may have it
        {"Accept_Language": "*", "Accept_Encoding": "gzip, deflate, br"},
        {"Accept_Language": "*", "Accept_Encoding": "identity", "Range": "bytes=0-"},
        {"Accept_Language": "de", "Accept_Encoding": ""},  # as a front may have it
        {"Accept_Language": "*", "Sec_Fetch_Mode": "cors", "Sec_Fetch_Site": "same-origin"},
        {"Accept_Language": "*", "Sec_Fetch_Mode": "cors", "Sec_Fetch_Site": "cross-site"},
    ],
    ids=str,
)
async def test_no_page_has_its_browser_pass_for_what_runs_scripts(
    hub: Hub, run: Run, image: Image, headers: dict[str, str]
) -> None:
    async with run() as mirror:
        assert (await mirror.ask(MANIFEST, Host="evil.example", **headers)).status == 403
    assert hub.requests == []


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/v2/"])
async def test_the_address_of_those_that_watch_is_no_browsers_either(run: Run, path: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    names = ["mirror.example"]
    async with run(listen_metrics=f"127.0.0.1:{port}", host_names=names) as mirror:
        mirror.url = f"http://127.0.0.1:{port}"
        assert (await mirror.ask(path, Origin="null")).status == 403
        assert (await mirror.ask(path, Sec_Fetch_Site="cross-site")).status == 403
        rebound = await mirror.ask(path, Host="evil.example", **BROWSER)
        assert rebound.status == (200 if path in ("/healthz", "/readyz") else 403)
        good = 404 if path == "/v2/" else 200
        for host in ("metrics.example:5001", "mirror.example"):  # what watches has its own names
            assert (await mirror.ask(path, Host=host)).status == good
        assert (await mirror.ask(path, Host="mirror.example", **BROWSER)).status == good


async def test_where_names_are_named_no_other_is_answered(hub: Hub, run: Run, image: Image) -> None:
    async with run(host_names=["mirror.example", "front.example:8443"]) as mirror:
        for host in ("evil.example", "front.example", "front.example:1", "mirror.example.evil"):
            assert (await mirror.ask(MANIFEST, Host=host)).status == 403
            assert (await mirror.ask("/readyz", Host=host)).status == 200
        assert hub.requests == []
        good = ("mirror.example", "MIRROR.example.:5000", "front.example:8443", "10.0.0.9:5000")
        for host in good:
            for headers in ({}, BROWSER):
                assert (await mirror.ask(MANIFEST, Host=host, **headers)).status == 200


async def test_no_browser_makes_another_type_of_what_it_is_given(run: Run, image: Image) -> None:
    async with run() as mirror:
        blob = f"/v2/library/nginx/blobs/{image.layers[0].digest}"
        for path in (MANIFEST, blob, "/v2/library/nginx/tags/list", "/metrics", "/nowhere"):
            headers = (await mirror.ask(path)).headers
            assert headers.getall("X-Content-Type-Options") == ["nosniff"]


async def test_a_browser_that_asks_too_often_is_bounded_like_any_client(run: Run) -> None:
    async with run(client_rate=0.1) as mirror:
        assert (await mirror.ask("/v2/", Origin="null")).status == 403
        assert (await mirror.ask("/v2/", Origin="null")).status == 429
