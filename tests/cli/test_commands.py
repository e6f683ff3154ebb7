"""The maintenance commands, with and without a running mirror: words, numbers, exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import socket
import stat
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

import pytest

from mirror.cli import main
from mirror.oci.digest import Digest
from mirror.storage.blobs.files import BlobFiles
from tests.standin import Fault, Hub, Image, make_image
from tests.support.command import (
    MODULE,
    SMALL,
    Command,
    Ended,
    environment,
    fetch,
    launched,
    serving,
)
from tests.support.mirror import Run

BOTH = pytest.mark.parametrize("beside", [True, False], ids=["beside a daemon", "alone"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data folder."""
    return tmp_path / "data"


@pytest.fixture
def images(hub: Hub) -> list[Image]:
    """Two images with a layer in common, `library/a:1` and `library/b:1`."""
    base = make_image(1, [500_000])
    images = [make_image(number, [300_000], base=base) for number in (2, 3)]
    for name, image in zip("ab", images, strict=True):
        hub.add(image, f"library/{name}", "1")
    return images


@pytest.fixture
async def filled(run: Run, images: list[Image]) -> list[Image]:
    """The images, pulled by a mirror that has ended."""
    async with run() as mirror:
        for name, image in zip("ab", images, strict=True):
            await mirror.pull(f"library/{name}", "1", image)
    return images


@asynccontextmanager
async def daemon(hub: Hub, folder: Path, *, there: bool = True) -> AsyncIterator[Command | None]:
    """Run a mirror if `there`; yields it, or None."""
    if not there:
        yield None
        return
    async with serving(folder, "--upstream", f"docker.io={hub.url}") as command:
        await command.address()
        yield command


async def do(*arguments: str | Path, program: Sequence[str] = MODULE) -> Ended:
    """Run a command to its end."""
    async with launched(*arguments, command=program) as command:
        return await command.ended()


def one_line(ended: Ended) -> str:
    """Return the only line of a refusal."""
    assert ended.code == 2, ended
    assert not ended.out
    [line] = ended.err.splitlines()
    assert line.startswith("mirror: ")
    return line


def path_of(folder: Path, digest: str) -> Path:
    """Return the path of a blob."""
    return BlobFiles(folder).path(Digest(digest))


def alter(path: Path) -> None:
    """Change a byte behind the mirror's back."""
    with path.open("r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes([first[0] ^ 1]))


async def is_pulled(hub: Hub, folder: Path, command: Command | None, image: Image) -> None:
    """Fail unless a pull of `library/a` is right, by the daemon that runs, or a new one."""
    async with daemon(hub, folder) if command is None else nullcontext(command) as running:
        assert running is not None
        url = await running.address() + "/v2/library/a"
        assert await fetch(f"{url}/manifests/1") == (200, image.manifest)
        for blob in image.blobs:
            assert await fetch(f"{url}/blobs/{blob.digest}") == (200, blob.read())


@BOTH
async def test_verify_says_that_all_is_right(
    hub: Hub, folder: Path, filled: list[Image], beside: bool
) -> None:
    async with daemon(hub, folder, there=beside):
        ended = await do("verify", "--data-dir", folder)
    assert ended.code == 0
    assert ended.out.startswith("verified 7 files, ")
    assert ended.out.endswith(": all right\n")
    assert not ended.err


@BOTH
async def test_verify_finds_an_altered_file_and_the_next_pull_is_right(
    hub: Hub, folder: Path, filled: list[Image], beside: bool
) -> None:
    wrong = [filled[0].layers[1].digest, filled[0].digest, filled[0].layers[0].digest]
    async with daemon(hub, folder, there=beside) as command:
        alter(path_of(folder, wrong[0]))
        alter(path_of(folder, wrong[1]))
        os.truncate(path_of(folder, wrong[2]), 1000)
        ended = await do("verify", "--data-dir", folder)
        assert ended.code == 1
        for digest in wrong:
            assert f"{digest}: " in ended.out
            assert not path_of(folder, digest).exists()
        assert "3 wrong and discarded" in ended.out
        assert (await do("verify", "--data-dir", folder)).code == 0
        await is_pulled(hub, folder, command, filled[0])


async def test_verify_takes_a_sample(folder: Path, filled: list[Image]) -> None:
    samples = {"3": "3 files", "50%": "4 files", "100%": "7 files", "0.1%": "1 file"}
    for sample, files in (*samples.items(), ("99999999999999", "7 files")):
        ended = await do("verify", "--data-dir", folder, "--sample", sample)
        assert f"verified {files}, " in ended.out


@BOTH
async def test_verify_keeps_to_its_rate_and_can_be_interrupted(
    hub: Hub, folder: Path, filled: list[Image], beside: bool
) -> None:
    began = asyncio.get_running_loop().time()
    async with daemon(hub, folder, there=beside) as command:
        assert (await do("verify", "--data-dir", folder, "--rate", "1MB")).code == 0
        assert asyncio.get_running_loop().time() - began > 1
        async with launched("verify", "--data-dir", folder, "--rate", "11kB") as slow:
            if command is not None:
                await command.says("order: verify --rate 11000")
            else:
                await opened(folder)
            slow.send(signal.SIGINT)
            ended = await slow.ended(within=5)
        assert (ended.code, ended.out) == (130, ""), ended.err
        assert "Traceback" not in ended.err
        await is_pulled(hub, folder, command, filled[0])


async def opened(folder: Path) -> None:
    """Wait until a process has the index open."""
    async with asyncio.timeout(10):
        while not await asyncio.to_thread((folder / "index.db-wal").exists):  # noqa: ASYNC110 - a file sends no event
            await asyncio.sleep(0.02)


async def test_verify_shows_a_bar_on_a_terminal(folder: Path, filled: list[Image]) -> None:
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *MODULE, "verify", "--data-dir", folder, env=environment(), stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    async with asyncio.timeout(10):
        assert await process.wait() == 0
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "[" + "#" * 30 + "] 100%" in shown
    assert "all right" in shown


@BOTH
async def test_ls_prints_a_table_of_the_images_or_an_object(
    hub: Hub, folder: Path, filled: list[Image], beside: bool
) -> None:
    async with daemon(hub, folder, there=beside):
        ended = await do("ls", "--data-dir", folder)
        head, *rows = ended.out.splitlines()
        assert head.split() == ["SIZE", "ALONE", "CHECKED", "USED", "IMAGE"]
        assert [row.split()[-1] for row in rows] == [
            "docker.io/library/a:1",
            "docker.io/library/b:1",
        ]
        page = await do("ls", "--data-dir", folder, "--limit", "1")
        assert page.out.endswith("1 of 2; the next: --after docker.io/library/a:1\n")
        found = json.loads((await do("ls", "--data-dir", folder, "b:*", "--json")).out)
    assert [each["digest"] for each in found["images"]] == [filled[1].digest]
    assert (found["total"], found["after"]) == (1, None)


@BOTH
async def test_show_prints_the_layers_of_an_image_or_an_object(
    hub: Hub, folder: Path, filled: list[Image], beside: bool
) -> None:
    async with daemon(hub, folder, there=beside):
        ended = await do("show", "--data-dir", folder, "a:1")
        assert ended.out.startswith("docker.io/library/a:1\n  digest   sha256:")
        assert re.search(r"\nlinux/amd64  \S+ \S+, alone \S+ \S+, created 2026", ended.out)
        assert re.search(r"\n +490.1 KiB +1  stand-in\n +294.5 KiB +0  stand-in\n", ended.out)
        found = json.loads((await do("show", "--data-dir", folder, "a:1", "--json")).out)
        missing = await do("show", "--data-dir", folder, "c:1")
    assert found["digest"] == filled[0].digest
    assert "nothing of 'docker.io/library/c:1' is stored" in one_line(missing)


@BOTH
async def test_pin_and_unpin_end_with_1_if_an_image_was_refused(
    hub: Hub, folder: Path, filled: list[Image], beside: bool
) -> None:
    async with daemon(hub, folder, there=beside):
        ended = await do("pin", "--data-dir", folder, "a:1", "c")
        assert ended.code == 1
        assert ended.out.startswith("pinned docker.io/library/a:1: ")
        assert "pinned images take " in ended.out
        assert "cannot pin 'docker.io/library/c:latest': nothing of it is stored" in ended.err
        assert "a:1  (pinned)" in (await do("ls", "--data-dir", folder)).out
        line = one_line(await do("purge", "--data-dir", folder, "--yes", "a"))
        assert line == (
            "mirror: docker.io/library/a:1 is pinned: `mirror unpin docker.io/library/a:1` first"
        )
        found = json.loads((await do("unpin", "--data-dir", folder, "a:1", "--json")).out)
        assert (found["pinned"], found["used"]) == (False, 0)
        assert (await do("purge", "--data-dir", folder, "--yes", "a")).code == 0


async def test_refresh_prints_both_digests_and_needs_a_running_mirror(
    hub: Hub, folder: Path, filled: list[Image]
) -> None:
    assert f"no mirror takes orders on {folder}/control.sock: " in one_line(
        await do("refresh", "--data-dir", folder, "a:1")
    )
    async with daemon(hub, folder):
        hub.add(filled[1], "library/a", "1")
        ended = await do("refresh", "--data-dir", folder, "a:1")
        old, new = filled[0].digest, filled[1].digest
        assert ended.out == f"docker.io/library/a:1 is {new} now, before {old}\n"
        again = await do("refresh", "--data-dir", folder, "a:1", "a:9")
    assert again.code == 1
    assert again.out == f"docker.io/library/a:1 is {new}, as before\n"
    assert "cannot refresh 'docker.io/library/a:9'" in again.err


async def test_limits_of_a_list_that_are_not_allowed_are_named(folder: Path) -> None:
    for wrong in ("0", "1001", "-1", "x", "1e3"):
        ended = await do("ls", f"--limit={wrong}")
        assert f"{wrong!r}: expected a number from 1 to 1000" in one_line(ended)


@BOTH
async def test_purge_of_an_image_leaves_the_layers_that_another_shares(
    hub: Hub, folder: Path, filled: list[Image], beside: bool
) -> None:
    shared, own = filled[0].layers
    async with daemon(hub, folder, there=beside) as command:
        ended = await do("purge", "--data-dir", folder, "a:1")
        assert ended.code == 0, ended
        assert "docker.io/library/a:1: 1 tag, 3 files, " in ended.out
        assert "kept: 1 file" in ended.out
        assert not path_of(folder, own.digest).exists()
        assert not path_of(folder, filled[0].digest).exists()
        assert path_of(folder, shared.digest).exists()
        pulls = hub.pulls
        await is_pulled(hub, folder, command, filled[0])
        assert hub.pulls == pulls + 1
        assert hub.bodies(shared.digest) == 1


@BOTH
async def test_purge_of_a_repository_and_of_a_digest(
    hub: Hub, folder: Path, filled: list[Image], beside: bool
) -> None:
    async with daemon(hub, folder, there=beside):
        ended = await do("purge", "--data-dir", folder, "--yes", "docker.io/library/b")
        assert "1 tag, 3 files" in ended.out
        assert path_of(folder, filled[0].layers[0].digest).exists()
        ended = await do("purge", "--data-dir", folder, filled[0].layers[0].digest)
        assert "0 tags, 1 file, " in ended.out
        assert not path_of(folder, filled[0].layers[0].digest).exists()
        again = await do("purge", "--data-dir", folder, filled[0].layers[0].digest)
        assert "nothing of sha256:" in one_line(again)
        assert "nothing of 'docker.io/library/b' is stored" in one_line(
            await do("purge", "--data-dir", folder, "b")
        )


@BOTH
async def test_a_whole_repository_does_not_go_unasked(
    hub: Hub, folder: Path, filled: list[Image], beside: bool
) -> None:
    before = everything(folder)
    async with daemon(hub, folder, there=beside):
        line = one_line(await do("purge", "--data-dir", folder, "b"))
        assert "docker.io/library/b is a whole repository: 1 tag, 3 files, " in line
        assert line.endswith("kept: 1 file of other images; --yes removes it without asking")
    assert everything(folder) == before


@pytest.mark.parametrize(
    ("answer", "code", "gone"), [(b"y\n", 0, True), (b"n\n", 1, False), (b"\x04", 1, False)]
)
async def test_a_terminal_is_asked_before_a_whole_repository_goes(
    folder: Path, filled: list[Image], answer: bytes, code: int, gone: bool
) -> None:
    ours, theirs = pty.openpty()
    words = (*MODULE, "purge", "--data-dir", str(folder), "b")
    process = await asyncio.create_subprocess_exec(
        *words, stdin=theirs, stdout=PIPE, stderr=PIPE, env=environment()
    )
    os.close(theirs)
    try:
        async with asyncio.timeout(20):
            assert process.stderr is not None
            asked = await process.stderr.readuntil(b"[y/N] ")
            assert b"1 tag, 3 files, " in asked
            os.write(ours, answer)
            out, err = await process.communicate()
    finally:
        os.close(ours)
        if process.returncode is None:
            process.kill()
    assert (process.returncode, b"purged" in out, b"nothing is removed" in err) == (
        code,
        gone,
        not gone,
    )
    assert path_of(folder, filled[1].digest).exists() is not gone


@BOTH
@pytest.mark.parametrize("target", ["b", "a:1", "layer"])
async def test_a_dry_purge_tells_the_effect_of_the_purge(
    hub: Hub, folder: Path, filled: list[Image], beside: bool, target: str
) -> None:
    target = filled[0].layers[0].digest if target == "layer" else target
    async with daemon(hub, folder, there=beside):
        before = everything(folder)
        dry = await do("purge", "--data-dir", folder, "--dry-run", target)
        assert everything(folder) == before
        done = await do("purge", "--data-dir", folder, "--yes", target)
    assert (dry.code, done.code) == (0, 0)
    assert dry.out == done.out.replace("purged", "would purge")


@BOTH
async def test_a_dry_verify_leaves_wrong_files_in_place(
    hub: Hub, folder: Path, filled: list[Image], beside: bool
) -> None:
    wrong, shorter = filled[0].layers[1].digest, filled[1].layers[1].digest
    async with daemon(hub, folder, there=beside):
        alter(path_of(folder, wrong))
        path_of(folder, shorter).write_bytes(b"less")
        before = everything(folder)
        for _ in range(2):
            dry = await do("verify", "--data-dir", folder, "--dry-run")
            assert dry.code == 1
            assert wrong in dry.out
            assert shorter in dry.out
            assert "2 wrong, and left as they are" in dry.out
        assert everything(folder) == before
        assert "2 wrong and discarded" in (await do("verify", "--data-dir", folder)).out
    assert not path_of(folder, wrong).exists()


async def test_a_dry_gc_tells_the_effect_of_the_gc(
    hub: Hub, folder: Path, filled: list[Image], tmp_path: Path
) -> None:
    config = tmp_path / "mirror.toml"
    config.write_text(f"data_dir = {json.dumps(str(folder))}\nmax_size = '2MiB'\n")
    (folder / "partial" / f"sha256-{'a' * 64}").write_bytes(b"x" * 5000)
    before = everything(folder)
    dry = await do("gc", "--config", config, "--dry-run", program=SMALL)
    assert everything(folder) == before
    done = await do("gc", "--config", config, program=SMALL)
    assert dry.out.startswith("would free ")
    assert dry.out == done.out.replace("freed", "would free")
    assert "1 partial download, " in dry.out
    assert " 0 files evicted" not in dry.out


async def test_a_dry_gc_beside_a_daemon_tells_of_strangers_and_lost_files(
    hub: Hub, folder: Path, filled: list[Image]
) -> None:
    stranger = Digest.of(b"stranger")
    (folder / "partial" / f"sha256-{'a' * 64}").write_bytes(b"x" * 5000)
    async with daemon(hub, folder):
        path_of(folder, stranger).parent.mkdir(exist_ok=True)
        path_of(folder, stranger).write_bytes(b"stranger")
        path_of(folder, filled[0].config.digest).unlink()
        before = everything(folder)
        dry = await do("gc", "--data-dir", folder, "--dry-run")
        assert everything(folder) == before
        done = await do("gc", "--data-dir", folder)
    assert dry.out == done.out.replace("freed", "would free")
    assert "1 file without an entry in the index" in dry.out
    assert "1 entry without" in dry.out


def everything(folder: Path) -> dict[str, int]:
    """List the stored files, with sizes."""
    names = ("blobs", "partial", "quarantine")
    within = (each for name in names for each in folder.glob(f"{name}/**/*"))
    return {str(each): each.stat().st_size for each in within if each.is_file()}


@BOTH
async def test_gc_removes_files_of_no_use(
    hub: Hub, folder: Path, filled: list[Image], beside: bool
) -> None:
    stranger = Digest.of(b"stranger")
    (folder / "partial" / f"sha256-{'a' * 64}").write_bytes(b"x" * 5000)
    async with daemon(hub, folder, there=beside) as command:
        path_of(folder, stranger).parent.mkdir(exist_ok=True)
        path_of(folder, stranger).write_bytes(b"stranger")
        path_of(folder, filled[0].config.digest).unlink()
        ended = await do("gc", "--data-dir", folder)
        assert ended.code == 0, ended
        assert "1 partial download, " in ended.out
        assert not list((folder / "partial").iterdir())
        if beside:  # without a daemon, the start has adopted one file and forgotten the other
            assert "freed 12.0 KiB" in ended.out
            assert "1 file without an entry in the index" in ended.out
            assert "1 entry without" in ended.out
            assert not path_of(folder, stranger).exists()
        await is_pulled(hub, folder, command, filled[0])


async def test_gc_keeps_the_bound_and_looking_does_not(
    folder: Path, filled: list[Image], tmp_path: Path
) -> None:
    config = tmp_path / "mirror.toml"
    config.write_text(f"data_dir = {json.dumps(str(folder))}\nmax_size = '2MiB'\n")
    before = sorted((folder / "blobs").rglob("*"))
    for looking in ("du", "verify"):
        assert (await do(looking, "--config", config, program=SMALL)).code == 0
    assert sorted((folder / "blobs").rglob("*")) == before
    assert " 0 files evicted" not in (await do("gc", "--config", config, program=SMALL)).out
    told = json.loads((await do("du", "--config", config, "--json", program=SMALL)).out)
    assert told["used"] <= told["limit"] == 2 * 1024**2


@BOTH
async def test_du_adds_up(hub: Hub, folder: Path, filled: list[Image], beside: bool) -> None:
    async with daemon(hub, folder, there=beside):
        told = json.loads((await do("du", "--data-dir", folder, "--json")).out)
        table = (await do("du", "--data-dir", folder)).out
    parts = ("kept", "partial", "promised", "index", "leaving", "quarantine")
    assert told["used"] == sum(told[part] for part in parts)
    alone = [repository["alone"] for repository in told["repositories"]]
    assert told["kept"] == sum(alone) + told["shared"] + told["unclaimed"]
    names = ["docker.io/library/a", "docker.io/library/b"]
    assert sorted(repository["repository"] for repository in told["repositories"]) == names
    for repository in told["repositories"]:
        [image] = repository["images"]
        assert image["reference"] == "1"
        assert image["bytes"] == repository["bytes"] == repository["alone"] + told["shared"]
        assert image["alone"] == repository["alone"]
    for name in (*names, "in all, of 50.0 GiB", "shared by several repositories"):
        assert name in table


@BOTH
async def test_budget_tells_the_pulls_left_and_the_clients_that_spent_them(
    hub: Hub, folder: Path, filled: list[Image], beside: bool
) -> None:
    hub.terms.limit = 40
    for _ in range(7):
        hub.limits.count(None)  # another client behind the same address
    hub.add(make_image(9), "library/c", "2")
    async with daemon(hub, folder) as command:
        assert command is not None
        url = await command.address()
        for _ in range(3):
            assert (await fetch(f"{url}/v2/library/c/manifests/2"))[0] == 200
        command.send(signal.SIGTERM)
        await command.ended()
    async with daemon(hub, folder, there=beside):
        told = json.loads((await do("budget", "--data-dir", folder, "--json")).out)
        shown = await do("budget", "--data-dir", folder)
    [account] = told["accounts"]
    assert (account["upstream"], account["account"]) == ("docker.io", "")
    assert (account["limit"], account["remaining"], account["window"]) == (40, 30, 21600)
    assert (account["used"], account["others"], account["asked"]) == (3, 7, 5)
    assert sum(account["spent"]) == 3
    assert len(account["returns"]) == 3
    assert all(21500 < seconds <= 21600 for seconds in account["returns"])
    assert account["clients"] == [{"name": "127.0.0.1", "pulls": 3}]
    assert {spender["name"] for spender in account["tags"]} == {
        "library/a:1",
        "library/b:1",
        "library/c:2",
    }
    assert shown.code == 0
    lines = [" ".join(line.split()) for line in shown.out.splitlines()]
    assert lines[0] == "docker.io, anonymous, seen as 127.0.0.1"
    assert "limit 40 pulls in 6 h" in lines
    assert "used 3 by this mirror, 7 by others behind the same address" in lines
    assert "saved 2 of the 5 pulls that clients made in about 6 h" in lines
    assert "1 library/c:2" in lines
    assert any(line.endswith("3 ###") for line in lines)


async def test_budget_says_when_nothing_is_left(hub: Hub, folder: Path) -> None:
    hub.terms.limit = 1
    hub.add(make_image(9), "library/c", "2")
    async with daemon(hub, folder) as command:
        assert command is not None
        url = await command.address()
        assert (await fetch(f"{url}/v2/library/c/manifests/2"))[0] == 200
        shown = (await do("budget", "--data-dir", folder)).out
    assert "forecast  spent; the next pull is back at " in shown
    assert "gate      shut: not asked for pulls before " in shown


async def test_the_socket_is_its_users_alone_and_goes_with_the_daemon(
    hub: Hub, folder: Path
) -> None:
    path = folder / "control.sock"
    folder.mkdir()  # noqa: ASYNC240
    with socket.socket(socket.AF_UNIX) as crashed:  # the socket that a crash leaves
        crashed.bind(str(path))
    async with daemon(hub, folder) as command:
        assert command is not None
        status = path.stat()
        assert stat.S_ISSOCK(status.st_mode)
        assert stat.S_IMODE(status.st_mode) == 0o600
        assert (await do("du", "--data-dir", folder)).code == 0
        command.send(signal.SIGTERM)
        assert (await command.ended()).code == 0
    assert not path.exists()


async def test_a_socket_that_a_crash_left_keeps_no_command_from_its_work(
    hub: Hub, folder: Path, filled: list[Image]
) -> None:
    async with daemon(hub, folder) as command:
        assert command is not None
        command.send(signal.SIGKILL)
        await command.ended()
    assert (folder / "control.sock").exists()
    assert (await do("verify", "--data-dir", folder)).code == 0
    async with daemon(hub, folder):
        assert (await do("verify", "--data-dir", folder)).code == 0


async def test_a_folder_too_deep_for_a_socket_is_no_hindrance(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 100) / ("e" * 100)
    async with daemon(hub, folder) as command:
        assert command is not None
        assert (await do("verify", "--data-dir", folder)).code == 0
        await command.says("order: verify")


async def test_nothing_of_it_is_reachable_by_network(hub: Hub, folder: Path) -> None:
    async with daemon(hub, folder) as command:
        assert command is not None
        url = await command.address()
        for path in ("/orders", "/control.sock", "/gc", "/v2/orders"):
            assert (await fetch(url + path))[0] == 404
        port = int(url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n")
        writer.write(b'{"kind":"gc"}')
        assert (await reader.readline()).split()[1] == b"405"
        writer.close()


async def test_an_order_that_a_running_mirror_cannot_read_is_refused(
    hub: Hub, folder: Path
) -> None:
    async with daemon(hub, folder) as command:
        assert command is not None
        for body in (b"", b"{}", b'{"kind":"verify","rate":-1}', b"[" * 60_000, b"x" * 100_000):
            reader, writer = await asyncio.open_unix_connection(str(folder / "control.sock"))
            head = f"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
            answer = await reader.read()
            assert b'"refused"' in answer or b" 413 " in answer, answer
            writer.close()
        assert "Traceback" not in command.err
        assert (await do("du", "--data-dir", folder)).code == 0


@BOTH
async def test_a_target_that_cannot_be_purged_gets_one_line(
    hub: Hub, folder: Path, filled: list[Image], beside: bool
) -> None:
    async with daemon(hub, folder, there=beside):
        line = one_line(await do("purge", "--data-dir", folder, "never-pulled"))
    assert "nothing of 'docker.io/library/never-pulled' is stored" in line


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify", "--sample", "0%"),
        ("verify", "--sample", "101%"),
        ("verify", "--sample", "nan%"),
        ("verify", "--sample", "0"),
        ("verify", "--sample", "-1"),
        ("verify", "--sample", "five"),
        ("verify", "--rate", "0"),
        ("verify", "--rate", "fast"),
        ("verify", "--rate", "1e40"),
        ("purge",),
        ("du", "--yaml"),
    ],
)
def test_an_option_that_means_nothing_is_refused(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("mirror: ")
    assert "see `mirror" in line


async def test_a_folder_that_is_no_mirrors_stays_as_it_is(tmp_path: Path) -> None:
    for command in ("verify", "gc", "du"):
        assert "no mirror keeps its data in" in one_line(await do(command, "--data-dir", tmp_path))
    assert not list(tmp_path.iterdir())  # noqa: ASYNC240


async def test_a_folder_that_another_uses_without_a_socket_is_left_alone(
    hub: Hub, folder: Path, filled: list[Image]
) -> None:
    async with daemon(hub, folder):
        (folder / "control.sock").unlink()
        line = one_line(await do("gc", "--data-dir", folder))
    assert "another mirror is using the data folder" in line


async def test_a_daemon_that_stops_ends_the_command_and_is_not_held_up(
    hub: Hub, folder: Path, filled: list[Image]
) -> None:
    async with daemon(hub, folder) as command:
        assert command is not None
        async with launched("verify", "--data-dir", folder, "--rate", "11kB") as slow:
            await command.says("order: verify --rate 11000")
            command.send(signal.SIGTERM)
            ended = await command.ended(within=5)
            assert (ended.code, "Traceback" in ended.err) == (0, False)
            assert "broke off" in one_line(await slow.ended())


async def test_purge_cuts_no_clients_body(hub: Hub, folder: Path, images: list[Image]) -> None:
    layer = images[0].layers[0]
    go = asyncio.Event()
    hub.faults.add(Fault(kind="blob", stall_after=100_000, until=go))
    async with daemon(hub, folder) as command:
        assert command is not None
        url = await command.address() + "/v2/library/a"
        assert (await fetch(f"{url}/manifests/1"))[0] == 200
        body = asyncio.create_task(fetch(f"{url}/blobs/{layer.digest}"))
        await hub.seen(lambda seen: seen.digest == layer.digest)
        assert (await do("purge", "--data-dir", folder, "--yes", "a")).code == 0
        assert (await do("gc", "--data-dir", folder)).code == 0
        go.set()
        assert await body == (200, layer.read())
        told = json.loads((await do("du", "--data-dir", folder, "--json")).out)
        assert told["used"] == told["kept"] + told["index"]
        assert (await do("verify", "--data-dir", folder)).code == 0
        assert (await fetch(f"{url}/blobs/{layer.digest}"))[0] == 200
