"""Pages of referrers: all of them in one index, or a Link to the rest."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from tests.attacks.raw import Raw, answer, speaking
from tests.content.test_referrers import INDEX, PATH, found
from tests.standin.images import index_document
from tests.support.mirror import Run

TYPE = b"Content-Type: " + INDEX.encode()


@pytest.fixture
async def raw() -> AsyncIterator[Raw]:
    """An upstream that sends any bytes."""
    async with speaking(Raw()) as raw:
        yield raw


def page(number: int, link: str = "", size: int = 100) -> bytes:
    """Make a page with one referrer, and a Link to the next page."""
    digest, notes = f"sha256:{number:064x}", {"a": "b" * size}
    item = {"digest": digest, "mediaType": INDEX, "size": 1, "annotations": notes}
    lines = [TYPE, *([f'Link: <{link}>; rel="next"'.encode()] if link else [])]
    return answer(index_document([item]), *lines)


async def test_all_pages_are_gathered_whatever_their_links_look_like(run: Run, raw: Raw) -> None:
    links = ["http://inner.example/v2/x?token=1%2B2", "?token=2", f"{PATH}?n=1&last=c"]
    asked = ["token=1%2B2", "token=2", "n=1&last=c"]
    for number, query in reversed(list(enumerate(["", *asked]))):
        raw.answers[f"{PATH}{'?' if query else ' '}{query}"] = page(
            number, links[number] if number < 3 else ""
        )
    async with run(upstreams={"docker.io": {"url": raw.url}}) as mirror:
        got = await mirror.ask(PATH)
        assert found(got) == {f"sha256:{number:064x}" for number in range(4)}
        assert "Link" not in got.headers


async def test_what_does_not_fit_into_an_index_is_behind_a_link(run: Run, raw: Raw) -> None:
    for number in range(1, 10):
        link = f"?page={number + 1}." if number < 9 else ""
        raw.answers[f"page={number}."] = page(number, link, 1_000_000)
    raw.answers[PATH] = page(0, "?page=1.", 1_000_000)
    async with run(upstreams={"docker.io": {"url": raw.url}}) as mirror:
        listed: list[str] = []
        path = f"{PATH}?ns=docker.io&artifactType=a/b&artifactType=c"
        while path:
            got = await mirror.ask(path)
            assert len(got.body) < 4 * 1024 * 1024
            assert json.loads(got.body)["manifests"] == []  # the referrers are of another type
            path = got.headers.get("Link", "").partition(">")[0].removeprefix("<")
            assert not path or "artifactType=a%2Fb&artifactType=c" in path
            listed.append(path)
        path = PATH
        digests = []
        while path:
            got = await mirror.ask(path)
            digests += sorted(found(got))
            path = got.headers.get("Link", "").partition(">")[0].removeprefix("<")
    assert digests == [f"sha256:{number:064x}" for number in range(10)]
    assert len(listed) > 1


@pytest.mark.parametrize("link", ["?page=1.", f"{PATH}?page=1.", "?"])
async def test_pages_without_end_are_an_honest_error(run: Run, raw: Raw, link: str) -> None:
    raw.answers[PATH] = page(1, link)
    async with run(upstreams={"docker.io": {"url": raw.url}}) as mirror:
        assert (await mirror.ask(PATH)).status == 502
    assert len(raw.heads) <= 2


async def test_a_page_that_is_missing_is_no_missing_api(run: Run, raw: Raw) -> None:
    raw.answers = {"page=1.": answer(b"{}", status=b"404 Not Found"), PATH: page(1, "?page=1.")}
    async with run(upstreams={"docker.io": {"url": raw.url}}) as mirror:
        assert (await mirror.ask(PATH)).status == 502
