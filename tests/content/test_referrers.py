"""Referrers: from upstream's API, else from the fallback tag; no image is its own referrer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.attacks.raw import NAME, Raw, answer, speaking
from tests.standin import Fault, Hub, Image, make_artifact, make_image, make_index
from tests.standin.images import Index, make_referrers_tag
from tests.support.mirror import Got, Mirror, Run

INDEX = "application/vnd.oci.image.index.v1+json"
SUBJECT = make_image(31)
SBOM = make_artifact(1, SUBJECT, artifact_type="application/spdx+json")
SIGNATURE = make_artifact(2, SUBJECT, artifact_type="application/vnd.sigstore")
PATH = f"/v2/{NAME}/referrers/{SUBJECT.digest}"
TAG = SUBJECT.digest.replace(":", "-")
JSON = {"Content-Type": "application/json"}
EMPTY = b'{"schemaVersion":2,"mediaType":"' + INDEX.encode() + b'","manifests":[]}'


def found(got: Got) -> set[str]:
    """Return the listed digests."""
    assert got.status == 200, got.body
    return {item["digest"] for item in json.loads(got.body)["manifests"]}


@pytest.fixture
def tagged(hub: Hub) -> Hub:
    """A hub without the API, which has the referrers by their fallback tag."""
    hub.terms.referrers = False
    hub.add(SUBJECT, NAME, "signed")
    for artifact in (SBOM, SIGNATURE):
        hub.add(artifact, NAME)
    return hub


BOTH = {SBOM.digest, SIGNATURE.digest}
NO_API = {
    "400": Fault(status=400, body=b"bad request"),
    "404 in text": Fault(status=404, body=b"404 page not found\n"),
    "404 in JSON": Fault(status=404, body=b'{"errors":[]}', headers=JSON),
    "404 without a body": Fault(status=404, body=b""),
    "404 page": Fault.page(status=404),
    "405": Fault(status=405, body=b'{"errors":[{"code":"UNSUPPORTED"}]}', headers=JSON),
    "405 page": Fault.page(status=405),
    "406": Fault(status=406, body=b""),
    "501": Fault(status=501, body=b""),
    "501 page": Fault.page(status=501),
    "200 and nothing in it": Fault(status=200, body=b"{}", headers=JSON),
    "200 and no index": Fault(status=200, body=b"{}", headers={"Content-Type": INDEX}),
    "200 and an error": Fault(
        status=200, body=b'{"errors":[{"code":"NOT_FOUND","message":"no"}]}', headers=JSON
    ),
    "200 and a page": Fault.page(status=200),
    "200 and text": Fault(status=200, body=b"ok", headers={"Content-Type": "text/plain"}),
}


def always(fault: Fault) -> Fault:
    """Return a fault of every question for referrers."""
    return replace(fault, kind="referrers", times=None)


@pytest.mark.parametrize("fault", NO_API.values(), ids=NO_API)
async def test_where_there_is_no_api_the_fallback_tag_is_read(
    tagged: Hub, mirror: Mirror, fault: Fault
) -> None:
    tagged.faults.add(always(fault))
    assert found(await mirror.ask(PATH)) == BOTH
    asked = tagged.journal.matching(kind="referrers")
    assert len([seen for seen in asked if "authorization" in seen.headers]) == 1


@pytest.mark.parametrize("fault", NO_API.values(), ids=NO_API)
async def test_where_there_is_neither_there_are_none(
    hub: Hub, mirror: Mirror, image: Image, fault: Fault
) -> None:
    hub.faults.add(always(fault))
    assert found(await mirror.ask(f"/v2/{NAME}/referrers/{image.digest}")) == set()
    assert hub.pulls == 0


async def test_that_there_is_no_api_is_not_remembered_for_long(tagged: Hub, run: Run) -> None:
    tagged.terms.referrers = True
    tagged.faults.add(Fault(kind="referrers", status=404, body=b"", times=1))
    tagged.faults.add(Fault(kind="manifest", status=404, body=b"", times=None))
    async with run(tag_ttl=3600, missing_ttl=0) as mirror:
        assert found(await mirror.ask(PATH)) == set()
        tagged.faults.clear()
        assert found(await mirror.ask(PATH)) == BOTH


@pytest.mark.parametrize("body", [EMPTY, EMPTY.replace(b"[]", b"null")])
async def test_an_empty_index_is_the_apis_answer(tagged: Hub, mirror: Mirror, body: bytes) -> None:
    tagged.faults.add(
        Fault(kind="referrers", status=200, body=body, headers={"Content-Type": INDEX}, times=None)
    )
    assert found(await mirror.ask(PATH)) == set()
    assert tagged.pulls == 0


REFUSED = {
    "429": (Fault(status=429, body=b"", headers={"Retry-After": "3600"}), 429),
    "500": (Fault(status=500, body=b""), 503),
    "503 page": (Fault.page(status=503), 503),
}


@pytest.mark.parametrize(("fault", "status"), REFUSED.values(), ids=REFUSED)
async def test_a_failure_is_no_answer_and_one_of_referrers_alone(
    tagged: Hub, run: Run, image: Image, fault: Fault, status: int
) -> None:
    tagged.terms.referrers = True
    async with run(tag_ttl=0) as mirror:
        tagged.faults.add(always(fault))
        got = await mirror.ask(f"/v2/{NAME}/referrers/{image.digest}")
        assert (got.status, json.loads(got.body)["errors"][0]["message"] != "") == (status, True)
        assert (await mirror.manifest(NAME, "latest")).body == image.manifest
        assert (await mirror.ask(f"/v2/{NAME}/tags/list")).status == 200
        blob = image.blobs[0]
        assert (await mirror.blob(NAME, blob.digest)).body == blob.read()


@pytest.mark.parametrize("status", [401, 403, 429, 500])
async def test_former_referrers_are_served_stale(tagged: Hub, run: Run, status: int) -> None:
    tagged.terms.referrers = True
    async with run(tag_ttl=0) as mirror:
        assert found(await mirror.ask(PATH)) == BOTH
        tagged.faults.add(Fault(kind="referrers", status=status, body=b"", times=None))
        got = await mirror.ask(PATH)
        assert found(got) == BOTH
        assert got.cache == "hit; detail=stale"
        assert "Warning" in got.headers
        assert "Age" in got.headers


@pytest.mark.parametrize("status", [401, 403])
async def test_the_fallback_tag_is_read_if_a_registry_denies_unknown_paths(
    tagged: Hub, mirror: Mirror, status: int
) -> None:
    tagged.faults.add(Fault(kind="referrers", status=status, body=b"", times=None))
    assert found(await mirror.ask(PATH)) == BOTH


@pytest.mark.parametrize("status", [401, 403])
async def test_a_denial_counts_without_a_fallback_tag_or_once_the_api_answered(
    tagged: Hub, mirror: Mirror, image: Image, status: int
) -> None:
    tagged.faults.add(Fault(kind="referrers", status=status, body=b"", times=None))
    assert (await mirror.ask(f"/v2/{NAME}/referrers/{image.digest}")).status == 403
    tagged.faults.clear()
    tagged.terms.referrers = True
    assert (await mirror.ask(f"/v2/{NAME}/referrers/{image.digest}")).status == 200
    tagged.faults.add(Fault(kind="referrers", status=status, body=b"", times=None))
    assert (await mirror.ask(PATH)).status == 403


@pytest.mark.parametrize("document", [SUBJECT, make_index([SUBJECT]), make_index([])])
async def test_nothing_is_its_own_referrer(
    hub: Hub, mirror: Mirror, document: Image | Index
) -> None:
    """GitLab resolves the fallback tag as the digest in its name."""
    hub.terms.referrers = False
    hub.add(document, NAME, "all", document.digest.replace(":", "-"))
    assert found(await mirror.ask(f"/v2/{NAME}/referrers/{document.digest}")) == set()
    assert hub.pulls == 0


@pytest.mark.parametrize("status", [403, 404, 405, 500])
async def test_the_fallback_tag_is_read_where_upstream_refuses_heads(
    tagged: Hub, mirror: Mirror, status: int
) -> None:
    tagged.faults.add(Fault(kind="manifest", method="HEAD", status=status, body=b"", times=None))
    assert found(await mirror.ask(PATH)) == BOTH


async def test_the_fallback_tag_of_a_longer_digest_is_cut(hub: Hub, mirror: Mirror) -> None:
    hub.terms.referrers = False
    digest = "sha512:" + hashlib.sha512(SUBJECT.manifest).hexdigest()
    hub.add(make_referrers_tag([SBOM]), NAME, f"sha512-{digest[7:71]}")
    assert found(await mirror.ask(f"/v2/{NAME}/referrers/{digest}")) == {SBOM.digest}


@pytest.mark.parametrize("document", [make_image(5), make_index([make_image(5), make_image(6)])])
async def test_a_document_that_is_no_list_of_referrers_lists_none(
    hub: Hub, mirror: Mirror, document: Image | Index
) -> None:
    hub.terms.referrers = False
    hub.add(SUBJECT, NAME, "signed")
    hub.add(document, NAME, TAG)
    assert found(await mirror.ask(PATH)) == set()


async def test_several_types_may_be_wanted(hub: Hub, mirror: Mirror) -> None:
    for document in (SUBJECT, SBOM, SIGNATURE, make_artifact(3, SUBJECT, artifact_type="a/b")):
        hub.add(document, NAME)
    wanted = "artifactType=application/spdx%2Bjson&artifactType=application/vnd.sigstore"
    assert found(await mirror.ask(f"{PATH}?{wanted}")) == BOTH


# The host of a redirect


@pytest.fixture
async def raw() -> AsyncIterator[Raw]:
    """An upstream that sends any bytes."""
    async with speaking(Raw()) as raw:
        yield raw


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (b"404 Not Found", 200),
        (b"405 No", 200),
        (b"501 No", 200),
        (b"403 Forbidden", 200),
        (b"429 Slow\r\nRetry-After: 3600", 429),
        (b"500 No", 503),
    ],
)
async def test_another_hosts_answer_about_referrers_counts_for_referrers_only(
    tagged: Hub, mirror: Mirror, image: Image, raw: Raw, status: bytes, told: int
) -> None:
    """GitHub's registry redirects to a host that answers 429, with a web page."""
    body = b"<html></html>"
    raw.answers["/v2/"] = answer(body, b"Content-Type: text/html", status=status)
    moved = {"Location": f"{raw.url}/v2/x"}
    tagged.faults.add(Fault(kind="referrers", status=303, body=b"", headers=moved, times=None))
    got = await mirror.ask(PATH)
    assert got.status == told
    assert told != 200 or found(got) == BOTH
    assert (await mirror.manifest(NAME, "latest")).body == image.manifest
    assert (await mirror.ask(f"/v2/{NAME}/tags/list")).status == 200
