"""Images are imported by the API: every byte proven, written once, nothing that no image needs."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import signal
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import encode_basic_auth

from tests.cli.test_moving_images import (
    MEMBERS,
    WRONG,
    files_of,
    pack,
    stored,
)
from tests.console.test_api import document
from tests.standin import Hub, Image, make_image
from tests.support.command import NOBODY, SMALL, fetch, serving
from tests.support.mirror import Got, Mirror, Run
from tests.support.waiting import until

TOKEN = "a-token-of-more-than-16"
OPERATORS = {"clients": {"ci": {"token": TOKEN}}, "operators": "ci"}
CI = encode_basic_auth("ci", TOKEN)
FLAGS = ("--upstream", NOBODY, "--operators", "ci", "--shutdown-grace", "1s")
ENV = {"MIRROR_CLIENTS": json.dumps({"ci": {"token": TOKEN}})}


async def sent(mirror: Mirror, archive: bytes, query: str = "", **headers: str) -> Got:
    """Send an archive as the operator."""
    named = {"Authorization": CI} | {key.replace("_", "-"): it for key, it in headers.items()}
    url = f"{mirror.url}/api/v1/import{query}"
    async with mirror.session.post(url, data=io.BytesIO(archive), headers=named) as response:
        return Got(response.status, response.headers, await response.read())


def packed(tmp_path: Path, files: dict[str, bytes]) -> bytes:
    """Return the archive of these files, in this order."""
    return pack(tmp_path / "x.tar", files).read_bytes()


def left_over(folder: Path) -> set[str]:
    """Return the stored files that are no blobs: partials, or content in quarantine."""
    return {name for name in stored(folder) if len(name) != 64}


@pytest.fixture
async def closed(run: Run, hub: Hub) -> AsyncIterator[Mirror]:
    """A mirror with an operator, and with an upstream that refuses all connections."""
    async with run(**OPERATORS) as mirror:
        await hub.down()
        yield mirror


@pytest.mark.parametrize("last", [True, False], ids=["index last", "index first"])
async def test_an_archive_is_taken_in_whatever_the_order_of_its_files(
    closed: Mirror, image: Image, tmp_path: Path, last: bool
) -> None:
    files = files_of(image)
    names = sorted(files, key=lambda name: (name == "index.json") is last)
    archive = packed(tmp_path, {name: files[name] for name in names})
    told = document(await sent(closed, archive))
    assert [each["reason"] for each in told["images"]] == [""]
    assert told["bytes"] == len(image.manifest) + sum(len(b.read()) for b in image.blobs)
    await closed.pull("library/nginx", "1", image)
    assert not left_over(closed.folder.path)
    again = document(await sent(closed, archive))
    assert (again["blobs"], again["bytes"]) == (0, 0)
    assert not left_over(closed.folder.path)


async def test_an_export_is_piped_into_an_import_in_chunks(
    run: Run, hub: Hub, closed: Mirror, image: Image, tmp_path: Path
) -> None:
    archive = packed(tmp_path, files_of(image))

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(archive), 30_011):
            yield archive[start : start + 30_011]

    url, headers = f"{closed.url}/api/v1/import", {"Authorization": CI, "Expect": "100-continue"}
    async with closed.session.post(url, data=pieces(), headers=headers) as response:
        assert response.status == 200, await response.read()
    await closed.pull("library/nginx", "1", image)


@pytest.mark.parametrize("case", WRONG)
async def test_a_wrong_layout_is_a_problem_and_leaves_nothing(
    closed: Mirror, image: Image, tmp_path: Path, case: str
) -> None:
    change, words = WRONG[case]
    files = files_of(image)
    change(files)
    got = await sent(closed, packed(tmp_path, files))
    assert got.status in (400, 409)
    assert words in document(got, got.status)["detail"]
    assert not left_over(closed.folder.path)
    assert not closed.folder.count("tag")


@pytest.mark.parametrize("case", MEMBERS)
async def test_an_archive_with_an_odd_member_is_refused(
    closed: Mirror, image: Image, tmp_path: Path, case: str
) -> None:
    info, words = MEMBERS[case]
    archive = pack(tmp_path / "x.tar", files_of(image))
    with tarfile.open(archive, "a") as tar:
        tar.addfile(info)
    got = await sent(closed, archive.read_bytes())
    assert words in document(got, 400)["detail"]
    assert not stored(closed.folder.path)


async def test_content_that_no_image_needs_is_not_taken(
    closed: Mirror, image: Image, tmp_path: Path
) -> None:
    small, large = b"contraband" * 10, b"contraband" * 20_000
    more = {f"blobs/sha256/{hashlib.sha256(each).hexdigest()}": each for each in (small, large)}
    wrong = {f"blobs/sha256/{'a' * 64}": bytes(100_000)}  # nothing needs it: it matters to nobody
    document(await sent(closed, packed(tmp_path, wrong | more | files_of(image))))
    wanted = {each.digest[7:] for each in image.blobs} | {image.digest[7:]}
    assert stored(closed.folder.path) == wanted
    room = (await closed.ask("/api/v1/status", Authorization=CI)).text
    assert json.loads(room)["disk"]["blobs"] == len(image.blobs)


async def test_an_archive_without_a_name_gets_one(
    closed: Mirror, image: Image, tmp_path: Path
) -> None:
    archive = packed(tmp_path, files_of(image, None))
    assert "no full name" in document(await sent(closed, archive), 400)["detail"]
    document(await sent(closed, archive, "?name=mine/app:2"))
    await closed.pull("mine/app", "2", image)
    assert "invalid" in document(await sent(closed, archive, "?name=A%0aB"), 400)["detail"]


async def test_an_archive_that_does_not_fit_evicts_nothing(
    hub: Hub, image: Image, tmp_path: Path
) -> None:
    large = pack(tmp_path / "x.tar", files_of(make_image("large", [6_000_000])))
    folder = tmp_path / "data"
    flags = (*FLAGS[2:], "--upstream", f"docker.io={hub.url}", "--max-size", "4MiB")
    async with serving(folder, *flags, env=ENV, command=SMALL) as command:
        url = await command.address()
        assert (await fetch(f"{url}/v2/library/nginx/manifests/latest"))[0] == 200
        kept = stored(folder)
        async with aiohttp.ClientSession(headers={"Authorization": CI}) as session:
            for data in (io.BytesIO(large.read_bytes()), _chunked(large.read_bytes())):
                async with session.post(f"{url}/api/v1/import", data=data) as got:
                    assert got.status == 409
                    assert "do not fit in max_size, 4.0 MiB" in await got.text()
    assert stored(folder) == kept


async def _chunked(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def test_only_an_operator_imports_and_no_page_of_another_site(
    closed: Mirror, image: Image, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    archive = packed(tmp_path, files_of(image))
    async with closed.session.post(f"{closed.url}/api/v1/import", data=io.BytesIO(archive)) as got:
        assert got.status == 401
    for headers in ({"Origin": "http://evil.example"}, {"Sec_Fetch_Site": "cross-site"}):
        assert (await sent(closed, archive, "", **headers)).status == 403
    assert "expected a body" in document(await sent(closed, b""), 400)["detail"]
    assert "order of ci" not in caplog.text.replace("import '-' ended", "")
    document(await sent(closed, archive))
    assert "order of ci at 127.0.0.1: import '-'" in caplog.text
    assert '"kind":"imported"' in caplog.text


async def test_a_client_that_leaves_midway_leaves_nothing(
    closed: Mirror, image: Image, tmp_path: Path
) -> None:
    archive = packed(tmp_path, files_of(make_image("large", [9_000_000])))
    _, writer = await asyncio.open_connection("127.0.0.1", closed.daemon.url.port)
    head = f"POST /api/v1/import HTTP/1.1\r\nHost: localhost\r\nAuthorization: {CI}\r\n"
    writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(archive))
    writer.write(archive[: len(archive) // 2])
    await writer.drain()
    await until(lambda: bool(left_over(closed.folder.path)))
    writer.close()
    await until(lambda: not left_over(closed.folder.path))
    assert not stored(closed.folder.path)
    cut = await sent(closed, archive[: len(archive) // 2])
    assert "is cut off" in document(cut, 400)["detail"]


async def test_a_stop_ends_an_import_at_once_and_leaves_nothing(
    image: Image, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    flags = (*FLAGS[:-1], "60s")
    async with serving(folder, *flags, env=ENV) as command:
        url = await command.address()
        archive, go = packed(tmp_path, files_of(image)), asyncio.Event()

        async def halting() -> AsyncIterator[bytes]:
            yield archive[: len(archive) // 2]
            await until(lambda: bool(left_over(folder)))
            command.send(signal.SIGTERM)
            await go.wait()

        async with aiohttp.ClientSession(headers={"Authorization": CI}) as session:
            async with session.post(f"{url}/api/v1/import", data=halting()) as got:
                assert got.status == 503
                assert "stopping" in await got.text()
            ended = await command.ended(20)
        assert ended.code == 0
        assert "Traceback" not in ended.err
    assert not stored(folder)


async def test_too_many_imports_at_a_time_are_told_to_come_again(
    closed: Mirror, image: Image, tmp_path: Path
) -> None:
    archive, go = packed(tmp_path, files_of(image)), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield archive[:100_000]
        await go.wait()
        yield archive[100_000:]

    url, login = f"{closed.url}/api/v1/import", {"Authorization": CI}
    tasks = [asyncio.create_task(_posted(closed, url, slow(), login)) for _ in range(2)]
    await until(lambda: len(left_over(closed.folder.path)) == 2)
    refused = await sent(closed, archive)
    assert "2 imports are under way" in document(refused, 503)["detail"]
    go.set()
    assert [await task for task in tasks] == [200, 200]
    await closed.pull("library/nginx", "1", image)


async def _posted(mirror: Mirror, url: str, data: Any, headers: dict[str, str]) -> int:  # noqa: ANN401 - a body
    async with mirror.session.post(url, data=data, headers=headers) as response:
        return response.status


async def test_an_archive_of_stored_content_evicts_nothing(
    hub: Hub, image: Image, tmp_path: Path
) -> None:
    layers = make_image("large", [5_000_000])
    first, second = (
        packed(tmp_path, files_of(layers, f"docker.io/{name}")) for name in ("a/b:1", "a/c:1")
    )
    folder = tmp_path / "data"
    bounds = ("--max-size", "8MiB", "--max-pinned", "90%")
    flags = (*FLAGS[2:], "--upstream", f"docker.io={hub.url}", *bounds)
    async with serving(folder, *flags, env=ENV, command=SMALL) as command:
        url = await command.address()
        used = image.blobs[-1].digest
        assert (await fetch(f"{url}/v2/library/nginx/blobs/{used}"))[0] == 200
        async with aiohttp.ClientSession(headers={"Authorization": CI}) as session:
            for archive in (first, first, second):
                async with session.post(f"{url}/api/v1/import", data=io.BytesIO(archive)) as got:
                    assert got.status == 200, await got.text()
                assert used[7:] in stored(folder)
                pin = f"{url}/api/v1/images/docker.io/a/b:1/pin"
                async with session.post(pin) as pinned:
                    assert pinned.status == 200, await pinned.text()
        await hub.down()
        path = f"a/c/blobs/{layers.blobs[-1].digest}"
        assert await fetch(f"{url}/v2/{path}") == (200, layers.blobs[-1].read())
    assert not left_over(folder)


async def test_a_digest_of_stored_content_is_no_proof_of_it(closed: Mirror, tmp_path: Path) -> None:
    image = make_image("large", [300_000])
    document(await sent(closed, packed(tmp_path, files_of(image))))
    files = files_of(image, "docker.io/a/b:1")
    layer = max(files, key=lambda name: len(files[name]))
    spoiled = files | {layer: bytes(len(files[layer]))}
    for wrong, words in ((spoiled, "do not match"), (files | {layer: b"short" * 20_000}, "says")):
        got = await sent(closed, packed(tmp_path, wrong))
        assert words in document(got, 409)["detail"]
        path = f"/v2/a/b/blobs/sha256:{layer.rpartition('/')[2]}"
        assert (await closed.ask(path)).status != 200
    document(await sent(closed, packed(tmp_path, files)))
    await closed.pull("a/b", "1", image)
