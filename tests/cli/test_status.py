"""`mirror status`: one screen about a running mirror, or about a data folder without one."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import signal
import struct
import termios
from dataclasses import replace
from pathlib import Path

import pytest

from mirror.admin.messages import Concern, RunningFetch, Status
from mirror.cli.status_screen import HEIGHT, WIDTH, screen
from tests.admin.test_concerns import HOUR, LIMIT, NIGHTLY, UP, WELL
from tests.standin import Hub, Image
from tests.support.command import MODULE, Ended, environment, fetch, launched, serving

STATUS = replace(
    WELL,
    version="1.0",
    host="mirror.test",
    started=1.0,
    uptime=7200,
    spans=(HOUR,) * 3,
    connections=3,
    certificate_end=None,
)
DOWN = Concern("upstream_down", "error", "quay.io has been down for 12 min.", "Ask it.", "watch-it")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data folder."""
    return tmp_path / "data"


async def status(*arguments: str | Path) -> Ended:
    """Run the command to its end."""
    async with launched("status", *arguments, command=MODULE) as command:
        return await command.ended()


def changed(**changes: object) -> Status:
    """The status with other fields."""
    return replace(STATUS, **changes)  # type: ignore[arg-type]


def test_schedules_are_a_table_with_failed_ones_first() -> None:
    never = replace(NIGHTLY, name="never", next=None, began=None, ended=None, images=0, stored=0)
    runs = replace(NIGHTLY, name="runs", ended=None, images=0, stored=0)
    failed = replace(NIGHTLY, name="failed", stored=1)
    lines = screen(changed(schedules=(never, runs, NIGHTLY, failed)), (), height=50)
    start = next(number for number, line in enumerate(lines) if line.startswith("SCHEDULE"))
    rows = [re.split(r"  +", line) for line in lines[start + 1 : start + 5]]
    assert [row[0] for row in rows] == ["failed", "runs", '"0 5 * * *" of nginx', "never"]
    assert [row[-1] for row in rows] == ["1 of 3", "runs", "3 of 3", "-"]
    assert rows[-1][1] == "never"


def test_a_usual_screen_fits_a_small_terminal() -> None:
    lines = screen(STATUS, ())
    assert len(lines) <= HEIGHT
    assert max(map(len, lines)) <= WIDTH
    assert lines[1] == "All is well."


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 20), (200, 60)])
def test_a_screen_full_of_trouble_fits_too(width: int, height: int) -> None:
    crowded = changed(concerns=(DOWN,) * 4, upstreams=(UP,) * 20, limits=(LIMIT,) * 9, fetches=30)
    fetch = RunningFetch("docker.io/library/" + "n" * 99, "sha256:1", 5, 10, 1e6, 2.0, 3)
    lines = screen(crowded, (fetch,) * 30, width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert "! quay.io has been down" in "\n".join(lines)


def test_advice_is_on_the_screen_where_there_is_room() -> None:
    text = "\n".join(screen(changed(concerns=(DOWN,)), ()))
    assert "! quay.io has been down for 12 min. Ask it." in text


def test_a_hostile_name_reaches_no_terminal_as_it_is() -> None:
    fetch = RunningFetch("evil/\x1b[2J\u202e\n\x9b", "sha256:1", 5, None, 1e6, 2.0, 3)
    text = "".join(screen(changed(fetches=1), (fetch,)))
    assert text.isprintable()


async def test_beside_a_mirror_it_ends_with_0_and_has_its_figures(
    hub: Hub, image: Image, folder: Path
) -> None:
    async with serving(folder, "--upstream", f"docker.io={hub.url}") as command:
        url = await command.address() + "/v2/library/nginx/manifests/latest"
        assert await fetch(url) == (200, image.manifest)
        text = await status("--data-dir", folder)
        told = json.loads((await status("--data-dir", folder, "--json")).out)
    assert text.code == 0
    assert "All is well." in text.out
    assert "docker.io" in text.out
    assert (told["running"], told["spans"][0]["requests"]) == (True, 1)


async def test_without_a_mirror_it_ends_with_1_and_has_those_of_the_folder(
    hub: Hub, image: Image, folder: Path
) -> None:
    async with serving(folder, "--upstream", f"docker.io={hub.url}") as command:
        url = await command.address() + "/v2/library/nginx/manifests/latest"
        assert await fetch(url) == (200, image.manifest)
        command.send(signal.SIGTERM)
        await command.ended()
    text = await status("--data-dir", folder)
    assert text.code == 1
    assert "! No mirror runs on this data folder." in text.out
    ended = await status("--data-dir", folder, "--json")
    told = json.loads(ended.out)
    assert (ended.code, told["running"], told["spans"][0]["requests"]) == (1, False, 1)


async def test_a_folder_of_no_mirror_is_an_error_of_one_line(tmp_path: Path) -> None:
    ended = await status("--data-dir", tmp_path / "nothing")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.count("\n") == 1


async def test_watching_prints_again_where_there_is_no_terminal(hub: Hub, folder: Path) -> None:
    async with serving(folder, "--upstream", f"docker.io={hub.url}") as served:
        await served.address()
        arguments = ("status", "--watch", "--json", "--data-dir", folder)
        async with launched(*arguments, command=MODULE) as command:
            await command.says('"running": true', within=30)
            await command.says("\n\n", within=30)
            command.send(signal.SIGINT)
            ended = await command.ended()
        assert ended.code == 0
        assert all(json.loads(line)["running"] for line in ended.out.split("\n\n"))


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
async def test_watching_on_a_terminal_redraws_and_leaves_it_clean(
    hub: Hub, folder: Path, end: signal.Signals
) -> None:
    async with serving(folder, "--upstream", f"docker.io={hub.url}") as served:
        await served.address()
        ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        process = await asyncio.create_subprocess_exec(
            *MODULE, "status", "--watch", "--data-dir", str(folder), stdout=its, env=environment()
        )
        os.close(its)
        drawn = await read(ours, until=b"\x1b[J", times=2)
        assert drawn.startswith(b"\x1b[?1049h\x1b[?25l\x1b[H")
        assert b"\x1b[2J" not in drawn  # clearing the whole screen flickers
        assert max(len(line) for line in frames(drawn)[0]) <= 80
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 40, 0, 0))
        process.send_signal(signal.SIGWINCH)
        small = await read(ours, until=b"\x1b[J", times=1)
        assert len(frames(small)[-1]) <= 10
        process.send_signal(end)
        rest = await read(ours, until=b"\x1b[?1049l", times=1)
        assert rest.endswith(b"\x1b[?25h\x1b[?1049l")
        async with asyncio.timeout(30):
            assert await process.wait() == 0
        os.close(ours)


async def read(terminal: int, *, until: bytes, times: int) -> bytes:
    """Read what a command writes to a terminal, until some bytes have come so often."""
    data = b""
    async with asyncio.timeout(30):
        while data.count(until) < times:
            data += await asyncio.to_thread(os.read, terminal, 65536)
    return data


def frames(data: bytes) -> list[list[str]]:
    """Return the lines of each drawing."""
    texts = data.decode().replace("\x1b[K", "").split("\x1b[H")[1:]
    return [text.partition("\x1b[J")[0].split("\r\n") for text in texts]
