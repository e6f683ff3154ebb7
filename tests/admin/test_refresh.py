"""`refresh` asks upstream now, and tells the old and the new digest, or why there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror.admin.messages import OrderError, Refreshed, RefreshedImage, RefreshOrder
from tests.standin import Fault, Hub, Image, make_image
from tests.support.mirror import Mirror, Run
from tests.support.orders import ordered

NAME = "docker.io/library/nginx:latest"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data folder of `run`."""
    return tmp_path / "data"


async def refreshed(folder: Path, *targets: str) -> tuple[RefreshedImage, ...]:
    """Refresh tags."""
    [record] = [record async for record in ordered(folder, RefreshOrder(targets))]
    assert isinstance(record, Refreshed)
    return record.images


async def test_a_fresh_tag_is_asked_about_and_its_new_manifest_is_fetched(
    hub: Hub, mirror: Mirror, folder: Path, image: Image
) -> None:
    await mirror.pull("library/nginx", "latest", image)
    [same] = await refreshed(folder, "nginx")
    assert same == RefreshedImage(NAME, image.digest, image.digest, changed=False)
    new = make_image(2, [1000])
    hub.add(new, "library/nginx", "latest")
    pulls = hub.pulls
    [changed] = await refreshed(folder, "nginx:latest")
    assert changed == RefreshedImage(NAME, image.digest, new.digest, changed=True)
    assert hub.pulls == pulls + 1
    assert (await mirror.manifest("library/nginx", "latest")).body == new.manifest
    assert hub.pulls == pulls + 1


async def test_an_image_that_is_not_stored_is_fetched(
    mirror: Mirror, folder: Path, image: Image
) -> None:
    [found] = await refreshed(folder, "nginx")
    assert found == RefreshedImage(NAME, "", image.digest, changed=True)


async def test_a_head_that_decides_nothing_leaves_it_to_a_pull(
    hub: Hub, mirror: Mirror, folder: Path, image: Image
) -> None:
    await mirror.pull("library/nginx", "latest", image)
    new = make_image(2, [1000])
    hub.add(new, "library/nginx", "latest")
    hub.faults.add(Fault(kind="manifest", method="HEAD", status=405, times=5))
    [changed] = await refreshed(folder, "nginx")
    assert (changed.before, changed.digest) == (image.digest, new.digest)


@pytest.mark.parametrize(
    ("target", "reason", "why"),
    [
        ("\x1b", "invalid repository name", "invalid"),
        ("nginx@sha256:" + "a" * 64, "a digest never changes", "invalid"),
        ("ghcr.io/a/b:1", "no upstream 'ghcr.io'", "invalid"),
        ("nginx:9", "", "unknown"),
    ],
)
async def test_each_tag_that_cannot_be_refreshed_says_why(
    mirror: Mirror, folder: Path, image: Image, target: str, reason: str, why: str
) -> None:
    bad, good = await refreshed(folder, target, "nginx")
    assert reason in (bad.refused or "")
    assert (bad.why, bad.changed, good.refused) == (why, False, None)


async def test_a_failing_upstream_leaves_the_tag_as_it_was(
    hub: Hub, mirror: Mirror, folder: Path, image: Image
) -> None:
    await mirror.pull("library/nginx", "latest", image)
    await hub.down()
    [failed] = await refreshed(folder, "nginx")
    assert (failed.before, failed.digest, failed.changed) == (image.digest, image.digest, False)
    assert failed.why == "unavailable"
    assert "stays as it was" in (failed.refused or "")
    assert (await mirror.manifest("library/nginx", "latest")).status == 200
    await hub.up()


async def test_refresh_without_a_running_mirror_says_so(
    run: Run, folder: Path, image: Image
) -> None:
    async with run() as mirror:
        await mirror.pull("library/nginx", "latest", image)
    with pytest.raises(OrderError, match="no mirror takes orders on"):
        await refreshed(folder, "nginx")
