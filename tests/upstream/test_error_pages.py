"""Web pages: only an error's status counts, and a page is never a success."""

from __future__ import annotations

import pytest

from tests.standin import Fault, Hub, Image
from tests.support.mirror import Mirror, Run

REPOSITORY = "library/nginx"


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (400, 502),
        (401, 403),
        (403, 403),
        (404, 404),
        (405, 502),
        (410, 502),
        (500, 503),
        (503, 503),
    ],
)
@pytest.mark.parametrize("kind", ["manifest", "blob"])
async def test_the_status_of_a_page_decides(
    hub: Hub, mirror: Mirror, image: Image, kind: str, status: int, told: int
) -> None:
    faults = [
        Fault.page(kind, times=None, status=status),  # type: ignore[arg-type]
        Fault(kind="blob", port="registry", times=None, status=status, body=b"<html></html>"),
    ]
    for fault in faults:
        hub.faults.add(fault)
    if kind == "manifest":
        got = await mirror.manifest(REPOSITORY, "latest")
    else:
        got = await mirror.blob(REPOSITORY, image.layers[0].digest)
    assert got.status == told


async def test_a_missing_tag_is_remembered_though_upstream_says_so_with_a_page(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    hub.faults.add(Fault.page("manifest", times=None, status=404))
    assert (await mirror.manifest(REPOSITORY, "gone")).status == 404
    asked = len(hub.requests)
    assert (await mirror.manifest(REPOSITORY, "gone")).status == 404
    assert len(hub.requests) == asked


async def test_a_kept_image_is_served_behind_a_captive_portal(
    hub: Hub, run: Run, image: Image
) -> None:
    async with run(tag_ttl=0) as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
        hub.faults.add(Fault.page(times=None))
        for _ in range(3):
            got = await mirror.manifest(REPOSITORY, "latest")
            assert got.body == image.manifest
            assert "Warning" in got.headers
        assert (await mirror.blob(REPOSITORY, image.layers[0].digest)).status == 200


@pytest.mark.parametrize("kind", ["manifest", "blob", "tags"])
async def test_a_page_in_place_of_a_success_is_no_success(
    hub: Hub, mirror: Mirror, image: Image, kind: str
) -> None:
    hub.faults.add(Fault.page(kind, times=None))  # type: ignore[arg-type]
    paths = {
        "manifest": "manifests/latest",
        "blob": f"blobs/{image.layers[0].digest}",
        "tags": "tags/list",
    }
    got = await mirror.ask(f"/v2/{REPOSITORY}/{paths[kind]}")
    assert got.status == 502
    hub.faults.clear()
