"""A stranger learns little of the mirror itself, at little cost."""

from __future__ import annotations

import asyncio
import re
import socket
from pathlib import Path

import pytest

from mirror.settings import ConfigurationError
from tests.attacks.raw import NAME, Raw, answer, speaking
from tests.standin import Image
from tests.support.mirror import Run
from tests.web.test_client_logins import TOKEN, clients


async def test_the_metrics_are_made_anew_twice_a_second_at_most(run: Run) -> None:
    async with run() as mirror:
        got = await asyncio.gather(*(mirror.ask("/metrics") for _ in range(200)))
    assert {each.status for each in got} == {200}
    assert len({each.body for each in got}) <= 40


async def test_statuses_that_an_upstream_makes_up_are_counted_by_their_class(
    run: Run,
) -> None:
    """Each name that is counted under is a line of every scrape from then on."""
    invented = [*range(230, 290), *range(432, 499)]
    async with speaking(Raw()) as raw:
        for status in (*invented, 521, 999):
            raw.answers[f"/s{status}"] = answer(b"", status=b"%d Odd" % status)
        async with run(upstreams={"docker.io": {"url": raw.url}}) as mirror:
            asks = (mirror.manifest(NAME, f"s{status}") for status in (*invented, 521, 999))
            assert {got.status for got in await asyncio.gather(*asks)} <= {404, 502, 503}
            scraped = (await mirror.ask("/metrics")).body.decode()
    told = set(re.findall(r'mirror_upstream_requests_total{.*status="(\w+)"', scraped))
    assert {"2xx", "4xx", "521", "9xx"} <= told
    assert len(told) < 10


async def test_a_flood_of_scrapes_is_bounded_and_health_is_not(run: Run) -> None:
    async with run(client_rate=0.1) as mirror:
        assert [(await mirror.ask("/metrics")).status for _ in range(2)] == [200, 429]
        assert (await mirror.ask("/healthz")).status == 200
        assert (await mirror.ask("/readyz")).status == 200


async def test_no_scrape_or_probe_is_refused_for_pulls_from_its_address(
    run: Run, image: Image
) -> None:
    manifest = "/v2/library/nginx/manifests/latest"
    async with run(client_rate=0.1) as mirror:
        assert [(await mirror.ask(manifest)).status for _ in range(2)] == [200, 429]
        assert (await mirror.ask("/metrics")).status == 200
        for _ in range(3):
            assert (await mirror.ask("/healthz")).status == 200
            assert (await mirror.ask("/readyz")).status == 200
        assert (await mirror.ask_from("127.0.0.9", "/metrics")).status == 200
        assert (await mirror.ask_from("127.0.0.9", manifest)).status == 200  # nor the other way
        assert (await mirror.ask("/metrics")).status == 429  # of a flood, for this address alone


async def test_the_metrics_may_have_an_address_of_their_own(run: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with run(listen_metrics=f"127.0.0.1:{port}", client_rate=0.1) as mirror:
        assert (await mirror.ask("/metrics")).status == 404
        assert (await mirror.ask("/healthz")).status == 200
        mirror.url = f"http://127.0.0.1:{port}"
        for _ in range(3):
            assert b"mirror_connections " in (await mirror.ask("/metrics")).body
        assert (await mirror.ask("/readyz")).body == b"ok\n"
        assert (await mirror.ask("/v2/")).status == 404
        assert (await mirror.ask("/metrics", "POST")).status == 404
        refused = "listen_metrics is .*; choose another address or port"
        for address in (f"127.0.0.1:{port}", "192.0.2.1:5001", "no.such.host.invalid:5001"):
            with pytest.raises(ConfigurationError, match=refused):
                async with run(listen_metrics=address, data_dir=tmp_path / "other"):
                    pass
        assert not (tmp_path / "other").exists()  # it is refused before anything is opened


@pytest.mark.parametrize("bound", [{"challenge": True}, {"anonymous": ["public/**"]}])
async def test_what_is_configured_is_told_to_nobody_who_has_not_logged_in(
    run: Run, image: Image, bound: dict[str, object]
) -> None:
    upstreams = {"secret.example": {"url": "http://127.0.0.1:1", "allow": ["corp/**"]}}
    paths = (
        "/v2/other.example/a/manifests/b",
        "/v2/a/manifests/b?ns=other.example",
        "/v2/secret.example/public/a/manifests/b",
        "/v2/private/a/manifests/b",
        "/nowhere",
    )
    async with run(clients=clients(), upstreams=upstreams, **bound) as mirror:
        for path in paths:
            got = await mirror.ask(path)
            assert got.status in (401, 403, 404)
            for name in (b"secret.example;", b", secret", b"corp/", b"public/**"):
                assert name not in got.body.replace(path.encode(), b"")
        told = await mirror.ask(paths[0], Authorization=f"Bearer {TOKEN}")
        assert told.status == 404
        assert b"secret.example" in told.body
