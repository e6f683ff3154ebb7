"""`ls` finds the stored images by name, a page at a time, with the bytes of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror.admin.messages import LsOrder, OrderError, StoredImages
from tests.standin import Hub, Image, make_image
from tests.support.mirror import Mirror, Run
from tests.support.orders import ordered


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data folder of `run`."""
    return tmp_path / "data"


@pytest.fixture
async def filled(hub: Hub, mirror: Mirror) -> list[Image]:
    """`nginx:1` and `nginx:2`, which share a layer, `org/app:1`, and `b@DIGEST` without a tag."""
    base = make_image(1, [500_000])
    images = [make_image(n, [100_000 * n], base=base) for n in (2, 3)]
    images += [make_image(n, [n * 10_000]) for n in (4, 5)]
    for image, name, tag in zip(
        images, ("library/nginx", "library/nginx", "org/app", "library/b"), "1212", strict=True
    ):
        hub.add(image, name, tag)
        if name != "library/b":
            await mirror.pull(name, tag, image)
    assert (await mirror.manifest("library/b", images[3].digest)).status == 200
    return images


async def listed(folder: Path, order: LsOrder) -> StoredImages:
    """Return a page."""
    [record] = [record async for record in ordered(folder, order)]
    assert isinstance(record, StoredImages)
    return record


async def names(folder: Path, order: LsOrder) -> list[str]:
    """Return the names on a page."""
    return [image.reference for image in (await listed(folder, order)).images]


async def test_images_are_listed_by_name_with_sizes_and_times(
    folder: Path, filled: list[Image], mirror: Mirror
) -> None:
    page = await listed(folder, LsOrder())
    assert [image.reference for image in page.images] == [
        f"docker.io/library/b@{filled[3].digest}",
        "docker.io/library/nginx:1",
        "docker.io/library/nginx:2",
        "docker.io/org/app:1",
    ]
    assert (page.total, page.after) == (4, None)
    untagged, nginx, _, app = page.images
    assert nginx.digest == filled[0].digest
    assert nginx.bytes > 700_000
    assert 200_000 < nginx.alone < 250_000
    assert app.bytes == app.alone
    assert nginx.checked > 10**9
    assert nginx.used > 10**9
    assert untagged.checked == 0


@pytest.mark.parametrize(
    ("pattern", "tags"),
    [
        ("nginx", ["nginx:1", "nginx:2"]),
        ("nginx:2", ["nginx:2"]),
        ("nginx:*", ["nginx:1", "nginx:2"]),
        ("library/ng*", ["nginx:1", "nginx:2"]),
        ("docker.io/library/nginx:1", ["nginx:1"]),
        ("docker.io/*:1", ["nginx:1", "app:1"]),
        ("*g*", ["nginx:1", "nginx:2", "app:1"]),
        ("org/**", ["app:1"]),
        ("app", []),
        ("[", []),
        ("\x1b*", []),
        ("*" * 500, ["b", "nginx:1", "nginx:2", "app:1"]),
    ],
)
async def test_a_pattern_names_images_as_docker_does(
    folder: Path, filled: list[Image], pattern: str, tags: list[str]
) -> None:
    found = await names(folder, LsOrder(pattern))
    assert [name.rpartition("/")[2].partition("@")[0] for name in found] == tags


@pytest.mark.parametrize("sort", ["name", "bytes", "used"])
async def test_pages_together_are_the_whole_list(
    folder: Path, filled: list[Image], sort: str
) -> None:
    whole = await names(folder, LsOrder(sort=sort))  # type: ignore[arg-type]
    found: list[str] = []
    after: str | None = None
    for _ in range(4):
        page = await listed(folder, LsOrder(sort=sort, limit=1, after=after))  # type: ignore[arg-type]
        found += [image.reference for image in page.images]
        assert page.total == 4
        after = page.after
    assert found == whole
    assert after is None


async def test_the_largest_and_the_last_used_images_come_first(
    folder: Path, filled: list[Image]
) -> None:
    found = (await listed(folder, LsOrder(sort="bytes"))).images
    assert [image.bytes for image in found] == sorted(
        (image.bytes for image in found), reverse=True
    )
    assert found[0].reference == "docker.io/library/nginx:2"


async def test_a_page_begins_behind_a_name_that_has_gone_meanwhile(
    folder: Path, filled: list[Image]
) -> None:
    found = await names(folder, LsOrder(after="docker.io/library/nginx:11"))
    assert found == ["docker.io/library/nginx:2", "docker.io/org/app:1"]
    with pytest.raises(OrderError, match=r"no image 'docker.io/library/nginx:11' is in this list"):
        await listed(folder, LsOrder(sort="bytes", after="nginx:11"))
    with pytest.raises(OrderError, match="invalid"):
        await listed(folder, LsOrder(after="\x1b["))


async def test_a_tag_that_is_not_stored_is_not_listed(
    hub: Hub, mirror: Mirror, folder: Path, image: Image
) -> None:
    assert (await mirror.manifest("library/nginx", "latest", "HEAD")).status == 200
    assert await listed(folder, LsOrder()) == StoredImages((), 0, None)


async def test_images_are_listed_without_a_running_mirror(
    run: Run, hub: Hub, image: Image, folder: Path
) -> None:
    async with run() as mirror:
        await mirror.pull("library/nginx", "latest", image)
        await mirror.pull("library/nginx", "latest", image)
    assert await names(folder, LsOrder()) == ["docker.io/library/nginx:latest"]
