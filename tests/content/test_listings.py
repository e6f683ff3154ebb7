"""Listings: pages of tags, and referrers with and without upstream's API for them."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, cast
from urllib.parse import parse_qs, quote

import pytest
from yarl import URL

from mirror.content.listings.known_tags import KnownTags
from mirror.content.listings.service import ListingService
from mirror.content.manifests.resolver import ManifestResolver
from mirror.content.manifests.tags import Tags
from mirror.oci.digest import Digest
from mirror.oci.manifest import Descriptor
from mirror.oci.names import Repository, Tag
from mirror.oci.paging import Paging
from mirror.storage.metadata.protocol import MetadataStore
from mirror.storage.metadata.rows import TagKey
from mirror.upstream.transport import Transport
from tests.attacks.steps import MOST, steps
from tests.attacks.test_addresses import registry
from tests.standin import Fault, Hub, Image, make_artifact, make_image
from tests.standin.faults import HTML
from tests.support.mirror import Mirror, Run

Headers = Mapping[str, str | None]
REPOSITORY = "library/nginx"
INDEX = "application/vnd.oci.image.index.v1+json"
_DIGEST = Digest("sha256:" + "a" * 64)
MIB = 1024 * 1024
_NO_MANIFESTS = cast("ManifestResolver", None)  # not used for tags


@pytest.fixture
def tags(hub: Hub, image: Image) -> list[str]:
    """Tags of the repository, sorted."""
    names = ["latest", *(f"1.{minor}" for minor in range(25))]
    for name in names:
        hub.tag(REPOSITORY, name, image)
    return sorted(names)


async def test_all_tags_are_listed(mirror: Mirror, tags: list[str]) -> None:
    got = await mirror.ask(f"/v2/{REPOSITORY}/tags/list")
    assert got.status == 200
    assert got.headers["Content-Type"] == "application/json"
    assert json.loads(got.body) == {"name": REPOSITORY, "tags": tags}


async def test_pages_follow_one_another_by_relative_links(mirror: Mirror, tags: list[str]) -> None:
    path = f"/v2/{REPOSITORY}/tags/list?n=7&ns=docker.io"
    found: list[str] = []
    while path:
        got = await mirror.ask(path)
        page = json.loads(got.body)["tags"]
        assert len(page) == min(7, len(tags) - len(found))
        found += page
        link = got.headers.get("Link", "")
        assert not link or (link.startswith("</v2/") and link.endswith('>; rel="next"'))
        path = link.partition(">")[0].removeprefix("<")
    assert found == tags


async def test_a_hundred_thousand_tags_are_listed_at_once(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    """An upstream may ignore paging."""
    names = [f"v{number}-of-a-build-of-the-main-branch" for number in range(100_000)]
    body = json.dumps({"name": REPOSITORY, "tags": names}).encode()
    hub.faults.add(Fault(kind="tags", body=body))
    got = await mirror.ask(f"/v2/{REPOSITORY}/tags/list")
    assert json.loads(got.body)["tags"] == names


async def test_last_and_zero_are_understood(hub: Hub, mirror: Mirror, tags: list[str]) -> None:
    got = await mirror.ask(f"/v2/{REPOSITORY}/tags/list?last=1.9")
    assert json.loads(got.body)["tags"] == ["latest"]
    hub.journal.clear()
    got = await mirror.ask(f"/v2/{REPOSITORY}/tags/list?n=0")
    assert json.loads(got.body)["tags"] == []
    assert hub.requests == []


async def test_any_query_that_upstream_pages_by_is_passed_on(
    hub: Hub, mirror: Mirror, tags: list[str]
) -> None:
    """Amazon's registry pages by a token in place of a tag."""
    token = "ukD72mdD/mC8b5xV3susmJzzaTgp3hKwR9nRUW1yZZ5+SfYlKkjGpQ=="
    link = f'</v2/{REPOSITORY}/tags/list?last={quote(token, safe="")}>; rel="next"'
    hub.faults.add(Fault(kind="tags", headers={"Link": link}))
    got = await mirror.ask(f"/v2/{REPOSITORY}/tags/list")
    path = got.headers["Link"].partition(">")[0].removeprefix("<")
    hub.journal.clear()
    assert (await mirror.ask(path)).status == 200
    assert parse_qs(hub.requests[-1].query)["last"] == [token]


@pytest.mark.parametrize(
    "last", ["a%20b", "%2e%2e%0d%0a", "caf%C3%A9", "a" * 5000, "a%26n=1", "%00", "%ff", "%3Ca%3E"]
)
async def test_what_nothing_is_listed_behind_is_refused(
    hub: Hub, mirror: Mirror, image: Image, last: str
) -> None:
    got = await mirror.ask(f"/v2/{REPOSITORY}/tags/list?last={last}")
    assert (got.status, len(got.body) < 300) == (400, True)
    assert hub.requests == []


async def test_what_listings_are_called_counts_in_what_is_kept(
    hub: Hub, image: Image, index: MetadataStore
) -> None:
    quota = 100_000
    async with Transport(URL(hub.url)) as wire:
        known = KnownTags(Tags(index, 60, 10))
        upstreams = {"docker.io": registry(wire, URL(hub.url))}
        listings = ListingService(upstreams, _NO_MANIFESTS, known, 60, 10, 1, quota=quota)
        repository = Repository.parse("docker.io", REPOSITORY)
        for number in range(50):
            last = f"{number}" + "a" * 4000
            await listings.tags(repository, Paging(None, (("last", last),)), "10.0.0.1")
        kept = int(repr(listings).split()[1])
        await listings.close()
    assert 0 < kept < quota / 4000


async def test_a_listing_is_good_for_a_while_and_longer_when_upstream_fails(
    hub: Hub, run: Run, tags: list[str]
) -> None:
    async with run() as mirror:
        await mirror.ask(f"/v2/{REPOSITORY}/tags/list")
        hub.journal.clear()
        assert (await mirror.ask(f"/v2/{REPOSITORY}/tags/list")).cache == "hit"
        assert hub.requests == []
    async with run(tag_ttl=0) as mirror:
        await mirror.ask(f"/v2/{REPOSITORY}/tags/list")
        hub.faults.add(Fault(kind="tags", status=503, times=None))
        got = await mirror.ask(f"/v2/{REPOSITORY}/tags/list")
        assert (got.cache, json.loads(got.body)["tags"]) == ("hit; detail=stale", tags)


async def test_tags_of_nothing_are_refused(mirror: Mirror, tags: list[str]) -> None:
    assert (await mirror.ask("/v2/library/nothing/tags/list")).status == 403


@pytest.mark.parametrize("api", [True, False], ids=["api", "fallback tag"])
async def test_referrers_are_found_and_filtered(hub: Hub, mirror: Mirror, api: bool) -> None:
    hub.terms.referrers = api
    subject = make_image(31)
    sbom = make_artifact(1, subject, artifact_type="application/spdx+json")
    signature = make_artifact(2, subject, artifact_type="application/vnd.sigstore")
    hub.add(subject, REPOSITORY, "signed")
    for artifact in (sbom, signature):
        hub.add(artifact, REPOSITORY)
    path = f"/v2/{REPOSITORY}/referrers/{subject.digest}"
    got = await mirror.ask(path)
    assert (got.status, got.headers["Content-Type"]) == (200, INDEX)
    index = json.loads(got.body)
    assert (index["schemaVersion"], index["mediaType"]) == (2, INDEX)
    assert {item["digest"] for item in index["manifests"]} == {sbom.digest, signature.digest}
    assert "OCI-Filters-Applied" not in got.headers
    some = await mirror.ask(f"{path}?artifactType=application/spdx%2Bjson")
    assert [item["digest"] for item in json.loads(some.body)["manifests"]] == [sbom.digest]
    assert some.headers["OCI-Filters-Applied"] == "artifactType"


@pytest.mark.parametrize("api", [True, False], ids=["api", "fallback tag"])
async def test_no_referrers_are_an_empty_index(
    hub: Hub, mirror: Mirror, image: Image, api: bool
) -> None:
    hub.terms.referrers = api
    got = await mirror.ask(f"/v2/{REPOSITORY}/referrers/sha256:{'0' * 64}")
    assert (got.status, json.loads(got.body)["manifests"]) == (200, [])


async def test_a_head_of_referrers_is_refused_rather_than_a_pull(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    got = await mirror.ask(f"/v2/{REPOSITORY}/referrers/{image.digest}", "HEAD")
    assert (got.status, got.headers["Allow"]) == (405, "GET")
    assert hub.pulls == 0


async def test_a_signature_tag_is_an_ordinary_tag(hub: Hub, mirror: Mirror, image: Image) -> None:
    signature = make_image(41)
    tag = image.digest.replace(":", "-") + ".sig"
    assert (await mirror.manifest(REPOSITORY, tag)).status == 404
    hub.tag(REPOSITORY, "v1.sig", signature)
    assert (await mirror.manifest(REPOSITORY, "v1.sig")).body == signature.manifest


async def test_a_listing_that_upstream_has_removed_is_not_served_while_it_fails(
    hub: Hub, run: Run, tags: list[str]
) -> None:
    async with run(tag_ttl=0) as mirror:
        assert (await mirror.ask(f"/v2/{REPOSITORY}/tags/list")).status == 200
        hub.faults.add(Fault(kind="tags", status=404))
        assert (await mirror.ask(f"/v2/{REPOSITORY}/tags/list")).status == 404
        hub.faults.add(Fault(kind="tags", status=503, times=None))
        assert (await mirror.ask(f"/v2/{REPOSITORY}/tags/list")).status == 503


async def test_a_list_is_fetched_once_for_all_clients_at_once(
    hub: Hub, mirror: Mirror, tags: list[str]
) -> None:
    release = asyncio.Event()
    hub.faults.add(Fault(kind="tags", hang=True, until=release))
    path = f"/v2/{REPOSITORY}/tags/list"
    asking = [asyncio.create_task(mirror.ask(path)) for _ in range(10)]
    await mirror.ask("/healthz")
    release.set()
    answers = await asyncio.gather(*asking)
    assert {got.headers["Content-Length"] for got in answers} == {str(len(answers[0].body))}
    assert all(json.loads(got.body)["tags"] == tags for got in answers)
    assert len(hub.journal.matching(kind="tags", status=200)) == 1


ODD_HEADERS = [
    {"Content-Type": "text/plain"},
    {"Content-Type": None},
    {"Content-Type": "application/octet-stream"},
    {"Content-Type": "text/html"},
    {"Content-Encoding": ""},
    {"Content-Encoding": "aws-chunked"},
    {"Content-Encoding": "UTF-8"},
    {"Content-Encoding": "none"},
]


@pytest.mark.parametrize("headers", ODD_HEADERS, ids=str)
@pytest.mark.parametrize("kind", ["tags", "referrers"])
async def test_the_body_of_a_list_counts_and_not_its_headers(
    hub: Hub, mirror: Mirror, image: Image, kind: Literal["tags", "referrers"], headers: Headers
) -> None:
    artifact = make_artifact(1, image)
    hub.add(artifact, REPOSITORY)
    hub.faults.add(Fault(kind=kind, headers=headers, times=None))
    if kind == "tags":
        got = await mirror.ask(f"/v2/{REPOSITORY}/tags/list")
        assert json.loads(got.body)["tags"] == ["latest"]
    else:
        got = await mirror.ask(f"/v2/{REPOSITORY}/referrers/{image.digest}")
        assert [each["digest"] for each in json.loads(got.body)["manifests"]] == [artifact.digest]


NO_LISTS = {
    "a page": Fault.page(),
    "a page as JSON": Fault(status=200, body=HTML, headers={"Content-Type": "application/json"}),
    "nothing": Fault(status=200, body=b""),
    "an empty document": Fault(status=200, body=b"{}"),
    "an error": Fault(status=200, body=b'{"errors":[{"code":"UNKNOWN","message":"x"}]}'),
    "a list": Fault(status=200, body=b'["latest"]'),
    "half of it": Fault(status=200, body=b'{"name":"library/nginx","tags":["latest"'),
    "packed": Fault(body=gzip.compress, headers={"Content-Encoding": "gzip"}),
    "packed in silence": Fault(body=gzip.compress),
    "401": Fault(status=401, body=b""),
    "403 page": Fault.page(status=403),
    "405": Fault(status=405, body=b""),
    "429": Fault(status=429, body=b""),
    "503 page": Fault.page(status=503),
    "a Link to nowhere": Fault(headers={"Link": '<http://[broken>; rel="next"'}),
}


@pytest.mark.parametrize("fault", NO_LISTS.values(), ids=NO_LISTS)
async def test_a_body_that_is_no_list_is_an_error_or_the_former_list(
    hub: Hub, run: Run, tags: list[str], fault: Fault
) -> None:
    path, always = f"/v2/{REPOSITORY}/tags/list", replace(fault, kind="tags", times=None)
    async with run(tag_ttl=0) as mirror:
        hub.faults.add(always)
        got = await mirror.ask(path)
        assert got.status in (403, 429, 502, 503)
        assert json.loads(got.body)["errors"]
        hub.faults.clear()
    async with run(tag_ttl=0) as mirror:
        assert (await mirror.ask(path)).status == 200
        hub.faults.add(always)
        got = await mirror.ask(path)
        assert (got.status, got.cache) == (200, "hit; detail=stale")
        assert json.loads(got.body)["tags"] == tags
        assert "Warning" in got.headers


# Lists while upstream is gone, after any earlier question.


def gone(hub: Hub) -> None:
    """Let upstream fail for good."""
    hub.faults.add(Fault(status=503, times=None))


@pytest.mark.parametrize("asked", ["", "?n=1000"])
async def test_pages_of_a_list_that_was_whole_are_given_while_upstream_is_gone(
    hub: Hub, run: Run, tags: list[str], asked: str
) -> None:
    hub.terms.page_size = 1000
    async with run(tag_ttl=0) as mirror:
        await mirror.ask(f"/v2/{REPOSITORY}/tags/list")
        if asked:
            await mirror.ask(f"/v2/{REPOSITORY}/tags/list{asked}")
        gone(hub)
        for query, names in {
            "": tags,
            "?n=3": tags[:3],
            f"?n=3&last={tags[2]}": tags[3:6],
            f"?last={tags[-3]}": tags[-2:],
        }.items():
            got = await mirror.ask(f"/v2/{REPOSITORY}/tags/list{query}")
            assert got.cache == "hit; detail=stale"
            assert got.headers["Warning"].startswith('299 - "upstream could not be asked')
            assert "Age" in got.headers
            assert json.loads(got.body)["tags"] == names
            assert ("Link" in got.headers) == ("n=" in query)


@pytest.mark.parametrize(
    "query", ["", "?n=1", "?n=1&next_page=gAAAAB", "?last=1.0", "?last=nothing-like-it"]
)
async def test_known_tags_are_listed_while_upstream_is_gone(
    hub: Hub, run: Run, tags: list[str], query: str
) -> None:
    """The list consists of pulled tags, also after a restart, and without an earlier list."""
    async with run() as mirror:
        for tag in ("latest", "1.3", "1.20"):
            assert (await mirror.manifest(REPOSITORY, tag)).status == 200
    gone(hub)
    async with run(tag_ttl=0) as mirror:
        names: list[str] = []
        path = f"/v2/{REPOSITORY}/tags/list{query}"
        while path:
            got = await mirror.ask(path)
            assert (got.status, got.cache) == (200, "hit; detail=stale")
            assert int(got.headers["Age"]) < 60
            assert got.headers["Warning"].endswith(', the tags that clients asked for"')
            names += json.loads(got.body)["tags"]
            path = got.headers.get("Link", "").removeprefix("<").removesuffix('>; rel="next"')
        assert names == ([] if "nothing" in query else ["1.20", "1.3", "latest"])
        got = await mirror.ask("/v2/library/other/tags/list")
        assert got.status == 503


async def test_an_answer_of_upstreams_is_never_replaced_by_known_tags(
    hub: Hub, run: Run, image: Image
) -> None:
    async with run() as mirror:
        assert (await mirror.manifest(REPOSITORY, "latest")).status == 200
        for status, told in ((403, 403), (404, 404), (429, 429)):
            hub.faults.add(Fault(kind="tags", status=status, times=3))
            assert (await mirror.ask(f"/v2/{REPOSITORY}/tags/list")).status == told
            hub.faults.clear()


async def test_a_list_of_100000_known_tags_does_not_block_the_loop(index: MetadataStore) -> None:
    known = KnownTags(tags := Tags(index, 60, 10))
    repository = Repository("docker.io", REPOSITORY)
    for number in range(100_000):
        owner = repository if number % 2 else Repository("docker.io", f"team/app-{number}")
        tags.put(TagKey(owner, Tag(f"v{number}")), Descriptor(_DIGEST, INDEX, 1))
    with steps() as longest:
        found = await known.page(repository, Paging(1000))
    assert found is not None
    assert found.page.following == Paging(1000, (("last", "v11797"),))
    assert longest.seconds < MOST, longest.what
