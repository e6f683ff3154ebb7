"""The environment's proxies: read as the tools of the field read them, if none is configured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from yarl import URL

from mirror.app.upstream_plans import proxies
from mirror.oci.errors import UpstreamMisbehaved
from mirror.settings import ConfigurationError, Upstream, load
from mirror.upstream.address_policy import AddressPolicy
from mirror.upstream.proxies import Proxies, is_direct
from tests.standin import Image
from tests.support.command import fetch, serve_to_the_end, serving
from tests.upstream.test_network import (
    LOGIN,
    REPOSITORY,
    Registry,
    proxied,
    served,
)

PROXY, OTHER = "http://p.example:3128", "http://q.example:3128"
# The list of golang.org/x/net/http/httpproxy's own tests.
GO = (
    "foobar.com, .barbaz.net, *.wildcard.io, 192.168.1.1, 192.168.1.2:81, 192.168.1.3:80, "
    "10.0.0.0/30, 2001:db8::52:0:1, [2001:db8::52:0:2]:443, [2001:db8::52:0:3]:80, "
    "2002:db8:a::45/64"
)


@pytest.mark.parametrize(
    ("host", "direct"),
    [
        *(("localhost", True), ("127.0.0.1", True), ("127.0.0.2", True), ("::1", True)),
        *(("::2", False), ("::ffff:127.0.0.1", True)),
        *(("192.168.1.1", True), ("192.168.1.2", False), ("192.168.1.3", True)),
        *(("192.168.1.4", False), ("10.0.0.2", True), ("10.0.0.4", False)),
        *(("2001:db8::52:0:1", True), ("2001:db8::52:0:2", False), ("2001:db8::52:0:3", True)),
        *(("2002:db8:a::123", True), ("fe80::424b:c8be:1643:a1b6", False)),
        *(("barbaz.net", False), ("www.barbaz.net", True), ("foobar.com", True)),
        *(("www.foobar.com", True), ("foofoobar.com", False), ("baz.com", False)),
        *(("FOOBAR.com", True), ("foobar.com.", True)),
        *(("localhost.net", False), ("local.localhost", False), ("barbarbaz.net", False)),
        *(("wildcard.io", False), ("nested.wildcard.io", True), ("awildcard.io", False)),
    ],
)
def test_no_proxy_means_what_it_means_to_go(host: str, direct: bool) -> None:
    assert is_direct(GO, host, "80") is direct


@pytest.mark.parametrize(
    ("text", "direct"),
    [
        *(("*", True), ("a.io, *", True), ("", False), (" , ,", False), ("example", True)),
        *(("r.example:443", True), ("r.example:80", False), ("example:443", True)),
        *((":443", False), ("/8", False), ("r.example/", False), ("[", False), ("*.", False)),
        *((".r.example", False), (".example", True), ("R.Example", True), ("r.example:", True)),
    ],
)
def test_an_entry_that_is_odd_means_nothing_else(text: str, direct: bool) -> None:
    assert is_direct(text, "r.example", "443") is direct


def test_a_name_of_other_letters_is_meant_as_it_is_asked_for() -> None:
    assert is_direct("bücher.example", "xn--bcher-kva.example", "443")


def chosen(url: str, environment: Mapping[str, str], proxy: str | None = None) -> str | None:
    """Return the proxy for an upstream's URL."""
    keys = {} if proxy is None else {"proxy": proxy}
    found = proxies(Upstream.model_validate({"url": "https://r.example", **keys}), environment)
    choice = found.of(URL(url))
    return None if choice is None else str(choice).rstrip("/")


@pytest.mark.parametrize(
    ("url", "environment", "proxy"),
    [
        ("https://r.example", {}, None),
        ("https://r.example", {"HTTPS_PROXY": PROXY}, PROXY),
        ("https://r.example", {"https_proxy": PROXY}, PROXY),
        ("https://r.example", {"HTTPS_PROXY": PROXY, "https_proxy": OTHER}, PROXY),
        ("https://r.example", {"HTTPS_PROXY": "", "https_proxy": OTHER}, OTHER),
        ("https://r.example", {"HTTP_PROXY": PROXY}, None),
        ("http://r.example", {"HTTP_PROXY": PROXY}, PROXY),
        ("http://r.example", {"http_proxy": PROXY, "HTTPS_PROXY": OTHER}, PROXY),
        ("https://r.example", {"HTTPS_PROXY": "p.example:3128"}, PROXY),
        ("https://r.example", {"HTTPS_PROXY": PROXY, "NO_PROXY": "example"}, None),
        ("https://r.example", {"HTTPS_PROXY": PROXY, "no_proxy": "r.example:443"}, None),
        ("https://cdn.elsewhere", {"HTTPS_PROXY": PROXY, "NO_PROXY": "r.example"}, PROXY),
        ("https://127.0.0.1:5001", {"HTTPS_PROXY": PROXY}, None),
    ],
)
def test_a_url_goes_by_the_environments_proxies(
    url: str, environment: dict[str, str], proxy: str | None
) -> None:
    assert chosen(url, environment) == proxy


def test_a_proxy_that_is_set_wins_and_none_can_be_had() -> None:
    around = {"HTTPS_PROXY": PROXY, "NO_PROXY": "*"}
    assert chosen("https://r.example", around, OTHER) == OTHER
    assert chosen("https://127.0.0.1", {}, OTHER) == OTHER
    assert chosen("https://r.example", {"HTTPS_PROXY": PROXY}, "none") is None
    assert chosen("https://r.example", {"HTTPS_PROXY": "socks5://a:1"}, "none") is None


@pytest.mark.parametrize(
    "text", ["socks5://p.example:1", "http://p.example/path", "http://robot:s3cret@a b"]
)
def test_a_variable_that_names_no_proxy_is_named_and_not_repeated(text: str) -> None:
    upstream = load({}).upstreams["docker.io"]
    for name in ("HTTPS_PROXY", "http_proxy"):
        with pytest.raises(ConfigurationError) as refused:
            proxies(upstream, {name: text})
        assert str(refused.value).startswith(
            f"proxy ({name}): expected http://[user:password@]host"
        )
        assert '"none"' in str(refused.value)
        assert text not in str(refused.value)


def test_a_certificate_is_not_shown_to_the_environments_proxy(tmp_path: Path) -> None:
    keys = {"client_cert": tmp_path / "c", "client_key": tmp_path / "k"}
    upstream = Upstream.model_validate({"url": "https://a.io", **keys})
    with pytest.raises(ConfigurationError, match=r"^client_cert would be shown to the environment"):
        proxies(upstream, {"HTTPS_PROXY": "https://p.example:1"})


def test_the_login_of_a_proxy_is_not_shown() -> None:
    assert "s3cret" not in repr(Proxies(URL(f"http://{LOGIN}@p.io"), URL(f"http://{LOGIN}@p.io")))


def test_an_upstream_does_not_lead_to_the_proxy() -> None:
    """The proxy may lie where upstreams may not lead, and the resolver lets its name pass."""
    guard = AddressPolicy(
        URL("https://r.example"), [URL(f"http://{LOGIN}@10.0.0.1:3128"), URL(PROXY)]
    )
    for url in (f"{PROXY}/secret", "http://P.example.:3128", "http://10.0.0.1:3128/"):
        with pytest.raises(UpstreamMisbehaved, match=r"the mirror's own proxy$"):
            guard.check(URL(url))
    guard.check(URL("http://p.example:3129"))


async def test_a_pull_goes_through_the_environments_proxy(image: Image, tmp_path: Path) -> None:
    """Only the proxy knows the upstream's name."""
    async with served(Registry(image)) as url, proxied(URL(url).authority) as (proxy, place):
        env = {"http_proxy": f"http://{LOGIN}@{place}"}
        options = ("--upstream", "docker.io=http://registry.invalid")
        async with serving(tmp_path / "data", *options, env=env) as mirror:
            got = await fetch(f"{await mirror.address()}/v2/{REPOSITORY}/manifests/latest")
            assert got == (200, image.manifest)
            await mirror.says("docker.io is reached through http://localhost:")
            assert "s3cret" not in mirror.out + mirror.err
        asked = len(proxy.asked)
        assert all(" http://registry.invalid/v2/" in line for line in proxy.asked)
        async with serving(
            tmp_path / "other", *options, env={**env, "NO_PROXY": "invalid"}
        ) as mirror:
            status, _ = await fetch(f"{await mirror.address()}/v2/{REPOSITORY}/manifests/latest")
            assert status == 503
        assert len(proxy.asked) == asked


async def test_a_bad_proxy_of_the_environments_stops_the_start_with_one_line() -> None:
    ended = await serve_to_the_end(env={"HTTPS_PROXY": "socks5://a:s3cret@p.example"})
    [line] = ended.err.splitlines()
    assert ended.code == 2
    assert line.startswith(
        "mirror: upstreams.docker.io.proxy (HTTPS_PROXY): expected http://[user:"
    )
    assert "s3cret" not in line
