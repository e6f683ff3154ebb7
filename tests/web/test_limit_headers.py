"""Manifests have Docker Hub's headers of the pull limit, for clients that may know it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.standin import Fault, Hub, make_image
from tests.support.mirror import Got, Mirror, Run
from tests.web.test_client_logins import TOKEN, clients

CHECK = "/v2/ratelimitpreview/test/manifests/latest"  # as Docker's documentation asks for it
PATH = "/v2/library/nginx/manifests/"


def said(got: Got) -> tuple[str | None, str | None]:
    """Return the headers of the limit and of the pulls that are left."""
    assert "docker-ratelimit-source" not in got.headers
    return got.headers.get("ratelimit-limit"), got.headers.get("ratelimit-remaining")


def fill(hub: Hub, *tags: str) -> None:
    for tag in tags:
        hub.add(make_image(tag, [1000]), "library/nginx", tag)


async def test_the_usual_check_works(hub: Hub, run: Run) -> None:
    """The check sends a token of Docker Hub's, too, and costs no pull."""
    hub.terms.limit = 100
    async with run() as mirror:
        got = await mirror.ask(CHECK, "HEAD", Authorization="Bearer of-another-registry")
        assert (got.status, *said(got)) == (200, "100;w=21600", "100;w=21600")
    assert hub.pulls == 0


async def test_the_remaining_pulls_are_those_that_the_mirror_knows(hub: Hub, run: Run) -> None:
    hub.terms.limit = 3
    fill(hub, "a", "b")
    async with run() as mirror:
        left = [
            said(await mirror.ask(PATH + tag, method))
            for tag, method in [("a", "GET"), ("a", "GET"), ("b", "HEAD"), ("b", "GET")]
        ]
        assert left == [("3;w=21600", f"{each};w=21600") for each in (2, 2, 2, 1)]
        hub.faults.add(Fault(status=503))
        got = await mirror.ask(PATH + "a")
        assert said(got) == ("3;w=21600", "1;w=21600")
        same = await mirror.ask(PATH + "a", If_None_Match=got.headers["ETag"])
        assert (same.status, *said(same)) == (304, "3;w=21600", "1;w=21600")
    assert hub.pulls == 2


async def test_a_refusal_says_that_nothing_is_left(hub: Hub, run: Run) -> None:
    hub.terms.limit = 1
    fill(hub, "a", "b")
    async with run() as mirror:
        await mirror.ask(PATH + "a")
        for path, method in ((PATH + "b", "GET"), (CHECK, "HEAD")):
            got = await mirror.ask(path, method)
            assert (got.status, *said(got)) == (429, "1;w=21600", "0;w=21600")
        assert said(await mirror.ask(PATH + "a")) == ("1;w=21600", "0;w=21600")


async def test_a_limit_that_the_operator_has_set_is_said_too(hub: Hub, run: Run) -> None:
    fill(hub, "a")
    upstreams = {"docker.io": {"url": hub.url, "pull_limit": 10, "pull_window": 3600}}
    async with run(upstreams=upstreams) as mirror:
        assert said(await mirror.ask(PATH + "a")) == ("10;w=3600", "9;w=3600")


async def test_where_there_is_no_limit_nothing_is_said(hub: Hub, run: Run) -> None:
    fill(hub, "a")
    async with run() as mirror:
        for _ in range(2):
            assert said(await mirror.ask(PATH + "a")) == (None, None)


@pytest.mark.parametrize("settings", [{"challenge": True}, {"anonymous": ["library/*"]}])
async def test_a_stranger_is_not_told(hub: Hub, run: Run, settings: dict[str, object]) -> None:
    hub.terms.limit = 10
    fill(hub, "a")
    async with run(clients=clients(), **settings) as mirror:
        bearer = f"Bearer {TOKEN}"
        assert said(await mirror.ask(PATH + "a", Authorization=bearer))[0] == "10;w=21600"
        assert said(await mirror.ask(PATH + "a")) == (None, None)


async def test_a_mirror_of_a_mirror_is_not_held_up_by_what_that_says(
    hub: Hub, run: Run, tmp_path: Path
) -> None:
    """An answer from the first mirror's cache costs no pull, despite the headers of the limit."""
    hub.terms.limit = 1
    fill(hub, "a")
    async with run() as first:
        await first.ask(CHECK, "HEAD")
        await first.ask(PATH + "a")
        upstreams = {"docker.io": {"url": first.url}}
        async with run(upstreams=upstreams, data_dir=tmp_path / "second", tag_ttl=0) as second:
            await behind(second)
            assert said(await first.ask(PATH + "a")) == ("1;w=21600", "0;w=21600")


async def behind(second: Mirror) -> None:
    got = await second.ask(CHECK, "HEAD")
    assert (got.status, *said(got)) == (200, None, None)
    for _ in range(3):
        got = await second.ask(PATH + "a")
        assert (got.status, *said(got)) == (200, None, None)
