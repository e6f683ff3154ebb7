"""The pages: their figures, the names on them, and text that would be markup."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from aiohttp import encode_basic_auth

from mirror.admin.messages import WarmOrder
from tests.standin import Hub, Image, make_image, make_index
from tests.support.mirror import Mirror, Run
from tests.support.orders import ordered

TOKEN = "a-token-of-more-than-16"
OPERATORS = {"clients": {"ci": {"token": TOKEN}}, "operators": "ci"}
CI = encode_basic_auth("ci", TOKEN)
NGINX = "/images/docker.io/library/nginx:latest"
PAGES = ("/", "/?span=hour", "/images", NGINX, "/requests?outcome=any", "/setup")


async def page(mirror: Mirror, path: str, **headers: str) -> str:
    got = await mirror.ask(path, **headers)
    assert got.status == 200, got.text
    assert got.headers["Content-Type"].startswith("text/html")
    return got.text


async def events(mirror: Mirror, path: str, until: str, **headers: str) -> str:
    """Read events until one of them has a text."""
    read = b""
    async with asyncio.timeout(10), mirror.request(path, headers=headers) as response:
        assert response.status == 200
        while until.encode() not in read:
            read += await response.content.readany()
    return read.decode()


async def test_a_pull_is_on_the_pages(mirror: Mirror, image: Image) -> None:
    for _ in range(2):
        await mirror.pull("library/nginx", "latest", image)
    overview = await page(mirror, "/")
    assert "All is well" in overview
    assert re.search(r"of 2 pulls not counted", overview)
    assert "docker.io/library/nginx" in overview
    assert "docker.io/library/nginx:latest" in await page(mirror, "/images")
    shown = await page(mirror, NGINX)
    assert image.digest in shown
    assert all(layer.digest in shown for layer in image.layers)
    assert mirror.url in await page(mirror, "/setup?client=containerd")


async def test_without_a_login_no_page_names_an_image_or_a_client(run: Run, image: Image) -> None:
    async with run(**OPERATORS) as mirror:
        await mirror.pull("library/nginx", "latest", image)
        assert not await mirror.serves("library/nginx", "missing")
        for path in PAGES:
            body = (await mirror.ask(path)).text
            assert "nginx" not in body.replace(NGINX, "")
            assert "127.0.0.1" not in body.replace(mirror.url.rstrip("/"), "")
        told = await events(mirror, "/events?span=day", "as-of")
        assert "nginx" not in told
        assert "pulls not counted" in told
        for path in PAGES:
            await page(mirror, path, Authorization=CI)
        assert "nginx" in await events(mirror, "/events?span=day", "as-of", Authorization=CI)


async def test_events_repeat_only_the_parts_that_have_changed(mirror: Mirror) -> None:
    async with asyncio.timeout(10), mirror.request("/events") as response:
        read = b""
        while read.count(b"event: as-of") < 3:
            read += await response.content.readany()
    parts = [each for each in read.split(b"\n\n") if b"event: part" in each]
    assert len([each for each in parts if b'id="part-health"' in each]) == 1


async def test_a_part_of_a_page_is_replaced_by_one_of_the_same_id(mirror: Mirror) -> None:
    overview = await page(mirror, "/")
    told = await events(mirror, "/events", "as-of")
    ids = re.findall(r'id="(part-[a-z]+)"', overview)
    assert ids == re.findall(r'id="(part-[a-z]+)"', told)
    assert len(ids) == len(set(ids)) > 5


async def test_hostile_text_of_an_image_is_text_on_its_page(mirror: Mirror, hub: Hub) -> None:
    hostile = "<script>alert(1)</script>\"'&\u202e"
    hub.add(make_index([make_image(5, architecture=hostile)]), "library/odd", "latest")
    assert await mirror.serves("library/odd", "latest")
    shown = await page(mirror, "/images/docker.io/library/odd:latest")
    assert "<script>alert" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown


async def test_what_pages_load_is_kept_by_browsers_for_good(mirror: Mirror) -> None:
    overview = await page(mirror, "/")
    files = re.findall(r'(?:href|src)="(/static/[^"]+)"', overview)
    assert {each.partition("?")[0].rpartition(".")[2] for each in files} == {"css", "js", "svg"}
    for path in files:
        got = await mirror.ask(path)
        assert got.status == 200
        assert "immutable" in got.headers["Cache-Control"]
    assert (await mirror.ask("/static/../parts.py")).status == 404
    assert (await mirror.ask("/static/nothing.css")).status == 404


@pytest.mark.parametrize(
    "path",
    [
        "/?span=year",
        "/events?span=%3Cscript%3E",
        "/images?sort=color",
        f"/images?pattern={'a' * 600}",
        "/requests?outcome=good",
        "/setup?client=floppy",
    ],
)
async def test_a_field_of_another_value_is_refused_with_what_is_allowed(
    mirror: Mirror, path: str
) -> None:
    got = await mirror.ask(path)
    assert got.status == 400
    assert "expected" in got.text
    assert "<script>alert" not in got.text


async def test_an_image_is_purged_on_a_page_of_its_own(run: Run, image: Image) -> None:
    async with run(**OPERATORS) as mirror:
        await mirror.pull("library/nginx", "latest", image)
        asked = await page(mirror, f"{NGINX}/purge", Authorization=CI)
        assert "Removed: 1 tag and 4 files, " in asked
        assert image.digest in mirror.stored.digests
        got = await mirror.ask(f"{NGINX}/purge", "POST", Authorization=CI)
        assert (got.status, got.headers["Location"]) == (303, "/images?done=purge")
        assert image.digest not in mirror.stored.digests
        assert "Purged." in await page(mirror, "/images?done=purge", Authorization=CI)


async def test_an_image_is_pinned_refreshed_and_unpinned_on_its_page(
    run: Run, image: Image
) -> None:
    async with run(**OPERATORS) as mirror:
        await mirror.pull("library/nginx", "latest", image)
        for action, note in (
            ("pin", "Pinned: it is"),
            ("refresh", "Upstream was asked"),
            ("unpin", "No longer pinned"),
        ):
            assert action in await page(mirror, f"{NGINX}/{action}", Authorization=CI)
            got = await mirror.ask(f"{NGINX}/{action}", "POST", Authorization=CI)
            assert (got.status, got.headers["Location"]) == (303, f"{NGINX}?done={action}")
            shown = await page(mirror, f"{NGINX}?done={action}", Authorization=CI)
            assert note in shown
            assert (">pinned<" in shown) == (action != "unpin")


async def test_an_action_that_is_refused_says_why(run: Run) -> None:
    async with run(**OPERATORS) as mirror:
        got = await mirror.ask(f"{NGINX}/pin", "POST", Authorization=CI)
        assert got.status == 404
        assert "nothing of it is stored" in got.text


async def test_a_name_that_is_no_text_is_no_page(run: Run) -> None:
    async with run(**OPERATORS) as mirror:
        for action in ("", "/pin", "/purge"):
            got = await mirror.ask(f"/images/docker.io/x%ff{action}", Authorization=CI)
            assert got.status in (400, 404)
        assert (await mirror.ask("/events", "POST", Authorization=CI)).status == 405
        assert (await mirror.ask(NGINX, "POST", Authorization=CI)).status == 405


async def test_a_login_leads_back_to_the_page_and_to_no_other_site(run: Run) -> None:
    async with run(**OPERATORS) as mirror:
        assert (await mirror.ask("/login?to=/images")).status == 401
        for target, leads in (
            ("/images%3Fsort%3Dused", "/images?sort=used"),
            ("//evil.test/", "/"),
            ("/%5Cevil.test/", "/"),
            ("http://evil.test/", "/"),
            ("/%0d%0aSet-Cookie:%20a=b", "/"),
            ("", "/"),
        ):
            got = await mirror.ask(f"/login?to={target}", Authorization=CI)
            assert (got.status, got.headers["Location"]) == (303, leads)


async def test_a_rebound_name_learns_nothing_of_the_mirror(mirror: Mirror) -> None:
    got = await mirror.ask("/", Host="evil.test")
    assert got.status == 421
    assert got.headers["Content-Type"].startswith("text/plain")
    assert "version" not in got.text


async def test_the_page_of_an_error_names_the_login_of_its_viewer(run: Run) -> None:
    async with run(**OPERATORS) as mirror:
        for path in ("/images/nothing", "/images/docker.io/library/none:1"):
            got = await mirror.ask(path, Authorization=CI)
            assert got.status == 404
            assert "Signed in as <strong>ci</strong>" in got.text
        got = await mirror.ask("/images/nothing")
        assert "Signed in as" not in got.text
        assert "sign in</a> as an operator" in got.text
        wrong = await mirror.ask("/", Authorization=encode_basic_auth("ci", "wrong"))
        assert wrong.status == 401
        assert "Signed in as" not in wrong.text


async def test_a_spender_without_a_name_is_the_mirror_itself(
    run: Run, hub: Hub, image: Image, tmp_path: Path
) -> None:
    hub.terms.limit = 100
    async with run() as mirror:
        order = WarmOrder(images=("nginx",))
        assert [each async for each in ordered(tmp_path / "data", order)]
        overview = await page(mirror, "/")
    assert "Most by the mirror itself (1); on" in overview
    assert "client=&amp;outcome" not in overview


async def test_without_names_the_numbers_of_downloads_are_told(run: Run) -> None:
    async with run(**OPERATORS) as mirror:
        overview = await page(mirror, "/")
    assert "Downloads: 0. Clients that follow them: 0. Connections: 1." in overview
