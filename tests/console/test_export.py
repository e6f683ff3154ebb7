"""Images are exported by the API: whole, proven, for operators, and to no page of another site."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import tarfile
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from aiohttp import encode_basic_auth

from tests.console.test_api import document
from tests.standin import Hub, Image, make_image
from tests.support.command import launched, serving
from tests.support.mirror import Mirror, Run

TOKEN = "a-token-of-more-than-16"
OPERATORS = {"clients": {"ci": {"token": TOKEN}}, "operators": "ci"}
CI = encode_basic_auth("ci", TOKEN)
NGINX = "docker.io/library/nginx:latest"
EXPORT = f"/api/v1/export?image={NGINX}"


async def exported(mirror: Mirror, query: str) -> bytes:
    """Export as an operator; returns the archive."""
    got = await mirror.ask(f"/api/v1/export?{query}", Authorization=CI)
    assert got.status == 200, got.body
    assert got.headers["Content-Type"] == "application/x-tar"
    return got.body


async def pulled(mirror: Mirror, hub: Hub, name: str, size: int) -> Image:
    """Pull an image of random layers through the mirror; returns it."""
    image = make_image(name, [size, size])
    hub.add(image, f"library/{name}", "1")
    await mirror.pull(f"library/{name}", "1", image)
    return image


async def test_an_archive_is_the_one_of_the_command(
    run: Run, hub: Hub, image: Image, tmp_path: Path
) -> None:
    async with run(**OPERATORS) as mirror:
        await mirror.pull("library/nginx", "latest", image)
        other = await pulled(mirror, hub, "other", 30_000)
        archive = await exported(mirror, f"image={NGINX}&image=other:1")
        output = tmp_path / "images.tar"
        words = ("export", NGINX, "other:1", "--output", output)
        async with launched(*words, "--data-dir", mirror.folder.path) as command:
            assert (await command.ended(30)).code == 0
    assert archive == output.read_bytes()
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        names = tar.getnames()
    assert names[-1] == "index.json"
    wanted = {each.digest[7:] for each in (*image.blobs, *other.blobs)}
    assert wanted <= {name.rpartition("/")[2] for name in names}


async def test_all_images_are_exported_or_none(run: Run, image: Image) -> None:
    async with run(**OPERATORS) as mirror:
        await mirror.pull("library/nginx", "latest", image)
        both = await mirror.ask(f"{EXPORT}&image=none:1", Authorization=CI)
        assert "docker.io/library/none:1 is not exported" in document(both, 404)["detail"]
        platform = await mirror.ask(f"{EXPORT}&platform=a/b/c/d/e", Authorization=CI)
        assert "a/b/c/d/e" in document(platform, 400)["detail"]
        nothing = await mirror.ask("/api/v1/export", Authorization=CI)
        assert "image: expected a value" in document(nothing, 400)["detail"]
        wrong = await mirror.ask("/api/v1/export?image=A:B:C", Authorization=CI)
        assert wrong.status == 400


async def test_only_an_operator_exports_and_no_link_of_another_site(
    run: Run, image: Image, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with run(**OPERATORS) as mirror:
        await mirror.pull("library/nginx", "latest", image)
        document(await mirror.ask(EXPORT), 401)
        for site in ("cross-site", "same-site"):
            headers = {"Authorization": CI, "Sec_Fetch_Site": site}
            visit = {"Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
            assert (await mirror.ask(EXPORT, **headers, **visit)).status == 403
        assert "order of ci" not in caplog.text
        head = await mirror.ask(EXPORT, "HEAD", Authorization=CI)
        assert (head.status, head.body) == (200, b"")
        own = await mirror.ask(EXPORT, Authorization=CI, Sec_Fetch_Site="same-origin")
        assert own.status == 200
        assert 'filename="images.tar"' in own.headers["Content-Disposition"]
    assert f"order of ci at 127.0.0.1: export {NGINX}" in caplog.text
    assert "order of ci at 127.0.0.1 ended" in caplog.text


async def test_without_operators_nothing_is_exported(mirror: Mirror) -> None:
    assert "mirror export" in document(await mirror.ask(EXPORT), 403)["detail"]


async def test_an_archive_with_a_damaged_blob_is_broken_off(
    run: Run, image: Image, caplog: pytest.LogCaptureFixture
) -> None:
    async with run(**OPERATORS) as mirror:
        await mirror.pull("library/nginx", "latest", image)
        path = mirror.folder.blob(image.layers[1].digest)
        times, data = path.stat(), bytearray(path.read_bytes())
        data[1000] ^= 1
        path.write_bytes(data)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        with pytest.raises(aiohttp.ClientPayloadError):
            await mirror.ask(EXPORT, Authorization=CI)


async def test_too_many_exports_at_a_time_are_told_to_come_again(run: Run, hub: Hub) -> None:
    async with run(**OPERATORS) as mirror:
        await pulled(mirror, hub, "large", 20_000_000)
        path = "/api/v1/export?image=large:1"
        async with AsyncExitStack() as stack:
            for _ in range(4):
                begun = mirror.request(path, headers={"Authorization": CI})
                assert (await stack.enter_async_context(begun)).status == 200
            refused = await mirror.ask(path, Authorization=CI)
            assert "under way" in document(refused, 503)["detail"]
            assert int(refused.headers["Retry-After"]) > 0
        for _ in range(500):
            if (await mirror.ask(path, "HEAD", Authorization=CI)).status == 200:
                return
    pytest.fail("the exports count although their clients have left")


async def test_an_export_ends_with_the_mirror_whose_grace_is_for_pulls(
    hub: Hub, image: Image, tmp_path: Path
) -> None:
    image = make_image("large", [40_000_000])
    hub.add(image, "library/large", "1")
    flags = ("--upstream", f"docker.io={hub.url}", "--operators", "ci", "--shutdown-grace", "50s")
    clients = json.dumps({"ci": {"token": TOKEN}})
    async with serving(tmp_path, *flags, env={"MIRROR_CLIENTS": clients}) as command:
        url = await command.address()
        async with aiohttp.ClientSession(headers={"Authorization": CI}) as session:
            for path in (f"manifests/{image.digest}", *(f"blobs/{b.digest}" for b in image.blobs)):
                async with session.get(f"{url}/v2/library/large/{path}") as got:
                    await got.read()
            async with session.get(f"{url}/api/v1/export?image=large@{image.digest}") as export:
                await export.content.readexactly(100_000)
                command.send(signal.SIGTERM)
                async with asyncio.timeout(20):
                    with pytest.raises(aiohttp.ClientPayloadError):
                        await export.read()
                    ended = await command.ended(20)
        assert ended.code == 0
        assert "broken off: export" in ended.err + ended.out
