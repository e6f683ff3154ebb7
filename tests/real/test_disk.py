"""Pulls go on while the disk of the data folder fails: full, read-only, gone."""

import asyncio
import fcntl
import hashlib
import os
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from tests.standin import Fault, Hub, Image, make_image
from tests.support.folder import DataFolder

from .mirrors import Mirror
from .processes import CommandFailed, answers, environment, needs, run, scratch

MEBIBYTE = 1024 * 1024
SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN: every access fails from then on, as if the disk were gone
SHUTDOWN_NOW = 2  # without writing anything more


@pytest.fixture
def images(hub: Hub) -> list[Image]:
    """Six images with a layer of two mebibytes each."""
    images = [make_image(f"disk {number}", [2 * MEBIBYTE]) for number in range(6)]
    for number, image in enumerate(images):
        hub.add(image, f"library/i{number}", "latest")
    return images


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a data folder in it, as a mount point."""
    needs("mount", "umount")
    with scratch() as folder:
        (folder / "data").mkdir()
        yield folder


async def mount(folder: Path, *words: str | Path) -> None:
    """Mount something on the data folder, or skip the test."""
    try:
        await run("mount", *words, folder / "data", env=environment(folder))
    except CommandFailed as failure:
        pytest.skip(f"nothing can be mounted here: {failure}")


@asynccontextmanager
async def mirroring(folder: Path, port: int, hub: Hub) -> AsyncIterator[Mirror]:
    """Run a mirror on the mounted data folder."""
    mirror = Mirror(folder, port, hub.url, ("--max-size", "1GiB"))
    await asyncio.to_thread(mirror.start)
    try:
        yield mirror
    finally:
        await mirror.close()


async def pull(mirror: Mirror, number: int, image: Image) -> list[str]:
    """Pull an image, check it, and return the Cache-Status of each blob."""
    outcomes = []
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        base = f"{mirror.url}/v2/library/i{number}"
        async with session.get(f"{base}/manifests/latest") as response:
            assert await response.read() == image.manifest
        for blob in image.blobs:
            async with session.get(f"{base}/blobs/{blob.digest}") as response:
                body = await response.read()
                assert "sha256:" + hashlib.sha256(body).hexdigest() == blob.digest
                outcomes.append(response.headers["Cache-Status"])
    return outcomes


async def ready(mirror: Mirror) -> tuple[int, str]:
    """Return status and text of /readyz."""
    async with aiohttp.ClientSession() as session, session.get(f"{mirror.url}/readyz") as response:
        return response.status, await response.text()


async def kept_again(mirror: Mirror, number: int, image: Image) -> None:
    """Wait until the mirror is ready, and check that it keeps a pulled image."""
    await mirror.until(lambda: answers(f"{mirror.url}/readyz"))
    await pull(mirror, number, image)
    await mirror.until(lambda: mirror.metric("mirror_fetches") == 0)
    assert all("hit" in outcome for outcome in await pull(mirror, number, image))


async def test_a_full_disk_breaks_no_pull_and_caching_returns_with_the_space(
    folder: Path, port: int, hub: Hub, images: list[Image]
) -> None:
    await mount(folder, "-t", "tmpfs", "-o", "size=8m", "none")
    async with mirroring(folder, port, hub) as mirror:
        await kept_again(mirror, 0, images[0])
        filler = folder / "data" / "filler"
        with filling(filler):
            await asyncio.gather(*(pull(mirror, n, images[n]) for n in (1, 2, 3) for _ in range(3)))
            status, text = await ready(mirror)
            assert (status, "No space left" in text) == (503, True)
            assert all("hit" in outcome for outcome in await pull(mirror, 0, images[0]))
        await kept_again(mirror, 4, images[4])


async def test_a_disk_that_fills_midway_cuts_nobodys_body(
    folder: Path, port: int, hub: Hub, images: list[Image]
) -> None:
    await mount(folder, "-t", "tmpfs", "-o", "size=8m", "none")
    hub.faults.add(Fault(kind="blob", rate=4e6, times=None))
    async with mirroring(folder, port, hub) as mirror:
        await asyncio.gather(*(pull(mirror, n, image) for n, image in enumerate(images)))
        assert mirror.metric("mirror_store_failures_total") > 0
        for number, image in enumerate(images):
            await pull(mirror, number, image)


async def test_it_starts_on_a_disk_that_is_full_and_serves_what_it_has(
    folder: Path, port: int, hub: Hub, images: list[Image]
) -> None:
    await mount(folder, "-t", "tmpfs", "-o", "size=8m", "none")
    async with mirroring(folder, port, hub) as mirror:
        await kept_again(mirror, 0, images[0])
    with filling(folder / "data" / "filler"):
        async with mirroring(folder, port, hub) as mirror:
            assert all("hit" in outcome for outcome in await pull(mirror, 0, images[0]))
            await pull(mirror, 1, images[1])
            assert (await ready(mirror))[0] == 503
            (folder / "data" / "filler").unlink()
            await kept_again(mirror, 2, images[2])
    async with mirroring(folder, port, hub) as mirror:
        for number in (0, 2):
            assert all("hit" in outcome for outcome in await pull(mirror, number, images[number]))


async def test_a_disk_that_is_read_only_for_a_while_breaks_no_pull(
    folder: Path, port: int, hub: Hub, images: list[Image]
) -> None:
    data = folder / "data"
    await mount(folder, "-t", "tmpfs", "-o", "size=20m", "none")
    async with mirroring(folder, port, hub) as mirror:
        await kept_again(mirror, 0, images[0])
        # The folder is mounted on itself, read-only: later accesses are to the read-only one.
        await mount(folder, "--bind", data)
        await run("mount", "-o", "remount,bind,ro", data, env=environment(folder))
        assert (await ready(mirror))[0] == 503
        await asyncio.gather(*(pull(mirror, n, images[n]) for n in (1, 2) for _ in range(3)))
        status, text = await ready(mirror)
        assert (status, str(data) in text) == (503, True)
        assert all("hit" in outcome for outcome in await pull(mirror, 0, images[0]))
        await run("umount", "--lazy", data, env=environment(folder))
        await kept_again(mirror, 3, images[3])


async def test_a_lost_disk_breaks_no_pull_and_the_next_start_has_its_content(
    folder: Path, port: int, hub: Hub, images: list[Image]
) -> None:
    needs("mkfs.ext4")
    device, data = folder / "device", folder / "data"
    with device.open("wb") as file:
        file.truncate(64 * MEBIBYTE)
    await run("mkfs.ext4", "-q", device, env=environment(folder))
    await mount(folder, "-o", "loop", device)
    mirror = Mirror(folder, port, hub.url, ("--max-size", "1GiB"))
    await asyncio.to_thread(mirror.start)
    await kept_again(mirror, 0, images[0])
    await mirror.until(lambda: links(data) == 3)
    shut_down(data)
    for number in (0, 1, 2):
        await pull(mirror, number, images[number])
    assert (await ready(mirror))[0] == 503
    await asyncio.to_thread(mirror.kill)
    await run("umount", data, env=environment(folder))
    await mount(folder, "-o", "loop", device)
    async with mirroring(folder, port, hub) as mirror:
        assert all("hit" in outcome for outcome in await pull(mirror, 0, images[0]))
        await kept_again(mirror, 1, images[1])


def links(data: Path) -> int:
    """Return the number of links in the index."""
    return DataFolder(data).count("link")


def shut_down(data: Path) -> None:
    """Have every access to a file system fail with an I/O error, or skip the test."""
    descriptor = os.open(data, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", SHUTDOWN_NOW))
    except OSError as error:
        pytest.skip(f"this file system cannot be shut down: {error}")
    finally:
        os.close(descriptor)


@contextmanager
def filling(filler: Path) -> Iterator[None]:
    """Fill a file system to its last byte."""
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            continue
    try:
        yield
    finally:
        filler.unlink(missing_ok=True)
