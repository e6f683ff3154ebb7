"""The pages as people see them: at any width, light and dark, with scripts or without."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from mirror.console.pages import head
from tests.browser.chromium import WIDTHS, Chromium, Look
from tests.standin import Fault, Hub, Image
from tests.support.mirror import Mirror, Run

pytestmark = pytest.mark.timeout(180)

PAGES = ("/", "/images", "/images/docker.io/library/nginx:latest", "/requests", "/setup")
LOOKS = [Look(device, dark) for device in WIDTHS for dark in (False, True)]


def shown(look: Look) -> str:
    return f"{look.device}-{'dark' if look.dark else 'light'}"


@pytest.fixture
async def used(mirror: Mirror, image: Image) -> Mirror:
    """A mirror from which an image was pulled twice, and a missing one in vain."""
    await mirror.pull("library/nginx", "latest", image)
    await mirror.pull("library/nginx", "latest", image)
    assert not await mirror.serves("library/nginx", "missing")
    return mirror


@pytest.mark.parametrize("look", LOOKS, ids=shown)
@pytest.mark.parametrize("path", PAGES)
async def test_a_page_fits_its_window_and_hinders_nobody(
    used: Mirror, browser: Chromium, pictures: Path | None, path: str, look: Look
) -> None:
    def seen() -> None:
        browser.open(used.url + path, look)
        assert not browser.overflows()
        assert browser.hindrances() == []
        if pictures is not None:
            browser.picture(
                pictures / f"{path.strip('/').partition('/')[0] or 'overview'}-{shown(look)}.png"
            )
        assert browser.lines() == []
        assert browser.origins() == {used.url.rstrip("/")}

    await asyncio.to_thread(seen)


async def test_a_page_without_scripts_has_the_same_figures(
    used: Mirror, browser: Chromium, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both looks are at one moment: an age of "just now" could end between them.
    now = time.time()
    monkeypatch.setattr(head, "time", SimpleNamespace(time=lambda: now))

    def texts() -> tuple[str, str]:
        found = []
        for scripts in (True, False):
            browser.open(f"{used.url}/images", Look(scripts=scripts))
            found.append(browser.find("main").text)
        return found[0], found[1]

    with_scripts, without = await asyncio.to_thread(texts)
    assert with_scripts == without
    assert "docker.io/library/nginx:latest" in without


async def test_a_running_download_is_shown_and_goes_away_without_a_reload(
    mirror: Mirror, hub: Hub, image: Image, browser: Chromium
) -> None:
    go = asyncio.Event()
    hub.faults.add(Fault(kind="blob", reference=image.layers[1].digest, stall_after=5000, until=go))
    await asyncio.to_thread(browser.open, f"{mirror.url}/")
    pull = asyncio.create_task(mirror.pull("library/nginx", "latest", image))
    await asyncio.to_thread(browser.until, "docker.io/library/nginx")
    go.set()
    await pull
    await asyncio.to_thread(browser.until, "No download is under way.")


async def test_a_stop_does_not_wait_for_open_pages(run: Run, browser: Chromium) -> None:
    async with run() as mirror:
        await asyncio.to_thread(browser.open, f"{mirror.url}/")
        await asyncio.to_thread(browser.until, "live, as of")
        ending = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - ending < 5
    await asyncio.to_thread(browser.until, "not live, connecting again")
