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

_ROWS_OF_LINKS = """
return new Set([...document.querySelectorAll('nav a')].flatMap(
  (each) => [...each.getClientRects()].map((box) => [box.top, box.height].join()))).size"""
# The left end of each label, from that of its chart, and its height.
_LABELS = """
return [...document.querySelectorAll('svg.chart text')].map((each) => {
  const box = each.getBoundingClientRect(), chart = each.closest('svg').getBoundingClientRect();
  return [box.left - chart.left, box.height];
})"""
_HEIGHTS = """
const found = document.querySelectorAll('form input:not([type=hidden]), form select, form button');
return [...found].map((each) => each.getBoundingClientRect().height)"""


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


async def test_on_a_phone_the_navigation_is_one_line_and_no_label_is_cut(
    used: Mirror, browser: Chromium
) -> None:
    def seen() -> None:
        browser.open(f"{used.url}/", Look("phone"))
        assert browser.run(_ROWS_OF_LINKS) == 1
        sizes = browser.run(_LABELS)
        assert len(sizes) > 8
        for left, height in sizes:
            assert left >= 0
            assert height >= 12

    await asyncio.to_thread(seen)


@pytest.mark.parametrize("path", ["/images", "/requests", "/setup"])
@pytest.mark.parametrize("device", WIDTHS)
async def test_the_controls_of_a_form_are_equally_high(
    used: Mirror, browser: Chromium, path: str, device: str
) -> None:
    def heights() -> list[float]:
        browser.open(used.url + path, Look(device))
        found: list[float] = browser.run(_HEIGHTS)
        return found

    assert set(await asyncio.to_thread(heights)) == {36}


@pytest.mark.parametrize("path", PAGES[:4])
async def test_a_page_without_scripts_has_the_same_figures(
    used: Mirror, browser: Chromium, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    # Both looks are at one moment: an age of "just now" could end between them.
    now = time.time()
    monkeypatch.setattr(head, "time", SimpleNamespace(time=lambda: now))

    def text(look: Look) -> str:
        browser.open(used.url + path, look)
        return browser.find("main").text

    def texts() -> tuple[str, str]:
        # The overview has times of the mirror's clock: a minute may end between the looks.
        found = [(text(Look()), text(Look(scripts=False))) for _ in range(2)]
        return next((each for each in found if each[0] == each[1]), found[0])

    with_scripts, without = await asyncio.to_thread(texts)
    assert with_scripts == without
    assert ("Recent requests" if path == "/requests" else "docker.io/library/nginx") in without


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
