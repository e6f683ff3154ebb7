"""Pages of tags: a client that follows the mirror's Links gets the same tags as from upstream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.attacks.raw import NAME, Raw, answer, speaking
from tests.support.mirror import Got, Mirror, Run
from tests.support.tag_registry import Lister, follow, listing

TAGS = [f"v{number:03}" for number in range(120)]
JSON = b"Content-Type: application/json"
LIST = f"/v2/{NAME}/tags/list"

WAYS = {
    "as the specification has it": Lister(TAGS),
    "next_page of older Quay": Lister(TAGS, by="next_page"),
    "a token in the place of last": Lister(TAGS, by="last", more={"orderby": ""}),
    "a token of its own": Lister(TAGS, by="NextToken"),
    "several fields": Lister(TAGS, by="next_page", more={"limit": "50", "cursor": "a:b,c|d"}),
    "a page of its own length": Lister(TAGS, by="next_page", follows_n=False),
    "as the specification has it, of its own length": Lister(TAGS, follows_n=False),
    "no pages": Lister(TAGS, size=None),
    "no order": Lister(TAGS[::-1], size=None),
    "pages without an order": Lister(TAGS[::-1]),
    "another scheme, host and port": Lister(
        TAGS, link='<https://registry.example:8443{path}?{query}>; rel="next"'
    ),
    "no scheme": Lister(TAGS, link="<//registry.example{path}?{query}>; rel=next"),
    "no rel": Lister(TAGS, link="<{path}?{query}>"),
}
# Links that need a client that does more than to take the first Link's path and query.
LINKS = {
    "another path": Lister(TAGS, link='<http://inner:5000/prefix{path}?{query}>; rel="next"'),
    "a query alone": Lister(TAGS, link='<?{query}>; rel="next"'),
    "other words": Lister(TAGS, link='<{path}?{query}>; title="a, b"; REL="prev next"'),
    "several links": Lister(
        TAGS, link='<{path}?last=a>; rel="prev", <{path}?{query}>;rel="next", </x>; rel="last"'
    ),
}


async def through(run: Run, lister: Lister, query: str, **settings: object) -> list[list[str]]:
    """Follow a mirror's Links; returns the pages."""
    upstreams = {"docker.io": {"url": lister.url}}
    async with run(upstreams=upstreams, **settings) as mirror:
        return await follow(mirror.url, query)


def joined(pages: list[list[str]]) -> list[str]:
    """Return the tags of all pages."""
    return [tag for page in pages for tag in page]


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("query", ["", "n=7", "n=50", "n=120", "n=121", "n=1000", "n=5000"])
async def test_all_tags_are_seen_that_are_seen_directly(run: Run, way: Lister, query: str) -> None:
    async with listing(replace(way, asked=[])) as lister:
        assert joined(await follow(lister.url, query)) == way.tags
        assert joined(await through(run, lister, query)) == way.tags


@pytest.mark.parametrize("way", LINKS.values(), ids=LINKS)
async def test_all_tags_are_seen_whatever_a_link_looks_like(run: Run, way: Lister) -> None:
    async with listing(replace(way, asked=[])) as lister:
        assert joined(await through(run, lister, "")) == way.tags


@pytest.mark.parametrize("ttl", [0, 60])
async def test_pages_are_no_longer_than_wanted_where_upstream_has_none(run: Run, ttl: int) -> None:
    async with listing(Lister(TAGS, size=None)) as lister:
        pages = await through(run, lister, "n=50", tag_ttl=ttl)
        assert [len(page) for page in pages] == [50, 50, 20]
        # The list is whole each time: it is not fetched for each page.
        assert len(lister.asked) == (3 if ttl == 0 else 1)


async def test_a_full_page_of_the_longest_is_not_taken_for_all(run: Run) -> None:
    """The mirror asks for no longer page at once, and some registries send no Link."""
    tags = [f"v{number:05}" for number in range(2000)]
    async with listing(Lister(tags, size=5000, link="")) as lister:
        assert joined(await follow(lister.url, "n=5000")) == tags
        pages = await through(run, lister, "n=5000")
        assert [len(page) for page in pages] == [1000, 1000, 0]
        assert joined(pages) == tags


async def test_the_query_of_a_link_comes_back_to_upstream_unchanged(run: Run) -> None:
    tags = ["a", "b", "c", "d"]
    async with listing(Lister(tags, size=2, by="next_page", more={"a": "x/y+z=="})) as lister:
        await follow(lister.url)
        direct, lister.asked = lister.asked, []
        await through(run, lister, "")
        assert lister.asked == direct
        assert "%2F" in direct[1]


async def test_a_client_may_name_the_upstream_on_every_page(run: Run) -> None:
    async with listing(Lister(TAGS, by="next_page")) as lister:
        pages = await through(run, lister, "ns=docker.io&n=50")
        assert joined(pages) == TAGS
        assert all("ns=" not in query for query in lister.asked)


@pytest.fixture
async def raw() -> AsyncIterator[Raw]:
    """An upstream that sends any bytes."""
    async with speaking(Raw()) as raw:
        yield raw


async def ask(run: Run, raw: Raw, path: str = LIST) -> Got:
    """Ask a mirror of the raw upstream once."""
    async with run(upstreams={"docker.io": {"url": raw.url}}) as mirror, asyncio.timeout(15):
        return await mirror.ask(path)


@pytest.mark.parametrize(
    ("link", "query"),
    [(f"{LIST}?last=b", "?last=b"), ("?n=2&last=b", "?last=b"), ("?next_page=x", "?next_page=x")],
)
async def test_a_link_to_its_own_page_is_an_honest_error(
    run: Run, raw: Raw, link: str, query: str
) -> None:
    """A client that followed the Link would loop for ever, and never see the rest."""
    line = f'Link: <{link}>; rel="next"'.encode()
    raw.answers["/tags/"] = answer(b'{"name":"a","tags":["c","d"]}', JSON, line)
    got = await ask(run, raw, LIST + query)
    assert (got.status, b"Link" in got.body) == (502, True)


async def test_a_link_to_its_own_page_is_the_end_where_nothing_is_on_it(run: Run, raw: Raw) -> None:
    line = b'Link: <?last=b>; rel="next"'
    raw.answers["/tags/"] = answer(b'{"name":"a","tags":[]}', JSON, line)
    got = await ask(run, raw, f"{LIST}?last=b")
    assert (got.status, "Link" in got.headers) == (200, False)


async def test_an_empty_page_may_have_another_behind_it(run: Run, raw: Raw) -> None:
    """Amazon's services cut the page first, and filter it then."""
    line = b'Link: <?last=TOKEN>; rel="next"'
    raw.answers["/tags/"] = answer(b'{"name":"a","tags":[]}', JSON, line)
    got = await ask(run, raw)
    assert (got.status, got.headers["Link"]) == (200, f'<{LIST}?last=TOKEN>; rel="next"')


async def test_nothing_is_asked_for_a_page_of_no_length(mirror: Mirror) -> None:
    got = await mirror.ask(f"{LIST}?n=0&next_page=x")
    assert (got.status, b'"tags":[]' in got.body, "Link" in got.headers) == (200, True, False)
