"""What operators may see and do, in a browser; and what other sites may not."""

from __future__ import annotations

import asyncio
import html
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import bcrypt
import pytest
from aiohttp import web
from yarl import URL

from tests.browser.chromium import Chromium
from tests.standin import Hub, Image, make_image, make_index
from tests.support.mirror import Mirror, Run

pytestmark = pytest.mark.timeout(180)
NGINX = "/images/docker.io/library/nginx:latest"


@pytest.fixture
async def guarded(run: Run, tmp_path: Path, image: Image) -> AsyncIterator[Mirror]:
    """A mirror with an operator, alice, from which an image was pulled."""
    users = tmp_path / "users"
    hashed = {
        name: bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode() for name in ("alice", "bob")
    }
    users.write_text("".join(f"{name}:{each}\n" for name, each in hashed.items()))
    async with run(htpasswd=str(users), operators=["alice"]) as mirror:
        await mirror.pull("library/nginx", "latest", image)
        yield mirror


def open_as_alice(browser: Chromium, mirror: Mirror, path: str) -> None:
    """Sign in, and open a page.

    A browser sends a login unasked only to an address that has none in itself.
    """
    login = URL(mirror.url).with_user("alice").with_password("secret").with_path("/login")
    browser.open(str(login))
    browser.open(mirror.url + path)


async def test_others_see_numbers_and_no_name(guarded: Mirror, browser: Chromium) -> None:
    def seen() -> str:
        browser.open(f"{guarded.url}/")
        browser.until("live, as of")
        return browser.text

    text = await asyncio.to_thread(seen)
    assert "pulls not counted" in text
    assert "nginx" not in text
    assert "127.0.0.1" not in text.replace(guarded.url, "")


async def test_an_operator_signs_in_and_purges_an_image(
    guarded: Mirror, browser: Chromium, image: Image
) -> None:
    def purged() -> None:
        open_as_alice(browser, guarded, NGINX)
        browser.click("Purge…")
        browser.until("Purge docker.io/library/nginx:latest?")
        assert browser.hindrances() == []
        browser.click("Purge it")
        browser.until("Purged.")

    await asyncio.to_thread(purged)
    assert image.digest not in guarded.stored.digests


async def test_the_events_of_an_operator_have_names(guarded: Mirror, browser: Chromium) -> None:
    def seen() -> str:
        open_as_alice(browser, guarded, "/")
        browser.until("live, as of")
        return browser.text

    assert "docker.io/library/nginx" in await asyncio.to_thread(seen)


@asynccontextmanager
async def elsewhere(target: str) -> AsyncIterator[str]:
    """Another site, with a page that sends a form to the mirror."""
    body = f'<form method="post" action="{html.escape(target)}"><button>win</button></form>'

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=body, content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"http://evil.test:{port}/"
    finally:
        await runner.cleanup()


async def test_a_form_of_another_site_does_nothing(
    guarded: Mirror, browser: Chromium, image: Image
) -> None:
    await asyncio.to_thread(open_as_alice, browser, guarded, NGINX)
    async with elsewhere(f"{guarded.url}{NGINX}/purge") as url:

        def sent() -> str:
            browser.open(url)
            browser.click("win")
            browser.until("403")
            return browser.text

        assert "another" in await asyncio.to_thread(sent)
    assert image.digest in guarded.stored.digests


async def test_a_name_that_resolves_here_by_rebinding_shows_nothing(
    guarded: Mirror, browser: Chromium
) -> None:
    port = URL(guarded.url).port

    def seen() -> str:
        browser.open(f"http://evil.test:{port}/")
        return browser.text

    text = await asyncio.to_thread(seen)
    assert "421" in text
    assert "pulls not counted" not in text


async def test_hostile_text_of_an_image_is_text(
    mirror: Mirror, hub: Hub, browser: Chromium
) -> None:
    hostile = "<img src=x onerror=\"document.title='owned'\">\u202e' onload='x"
    index = make_index([make_image(5, architecture=hostile)])
    hub.add(index, "library/odd", "latest")
    assert await mirror.serves("library/odd", "latest")

    def seen() -> str:
        browser.open(f"{mirror.url}/images/docker.io/library/odd:latest")
        assert browser.run("return document.images.length") == 1  # the page's own
        assert browser.title.startswith("docker.io/library/odd:latest")
        assert browser.lines() == []
        return browser.text

    assert "<img src=x" in await asyncio.to_thread(seen)
