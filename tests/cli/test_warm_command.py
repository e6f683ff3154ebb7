"""`mirror warm` as its users type it: from files, beside a mirror and without one."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import sys
from pathlib import Path

import pytest

from mirror.admin.messages import WarmingImage, WarmProgress
from mirror.cli.progress_bar import WarmBars
from tests.standin import Fault, Hub, Image, make_image
from tests.support.command import MODULE, Ended, environment, launched
from tests.support.mirror import Mirror, Run
from tests.support.waiting import until

COMPOSE = """\
services:
  web: {image: "nginx:${TAG:-latest}"}
  own: {build: ., image: own:dev}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data folder of `run`."""
    return tmp_path / "data"


async def warm(folder: Path, *words: str, command: str = "warm") -> Ended:
    """Run the command to its end."""
    async with launched(command, "--data-dir", folder, *words) as running:
        return await running.ended(20)


async def test_images_of_a_compose_file_are_stored_and_skipped_ones_named(
    mirror: Mirror, image: Image, folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "compose.yaml"
    file.write_text(COMPOSE)
    ended = await warm(folder, "-f", str(file))
    assert ended.code == 0, ended.err
    assert "docker.io/library/nginx:latest: 1 pull and " in ended.out
    assert "1 of 1 images are stored: 1 pull and " in ended.out
    assert ended.err == f"mirror: {file}:3: service 'own' is built, not pulled\n"
    assert mirror.stored.has(image.layers[1].digest)
    ended = await warm(folder, "nginx", command="pull")
    assert "docker.io/library/nginx:latest: stored already" in ended.out


async def test_images_are_read_from_standard_input(
    mirror: Mirror, image: Image, folder: Path
) -> None:
    text = "kind: Pod\nspec:\n  containers:\n    - image: nginx\n"
    words = ("warm", "--data-dir", str(folder), "-f", "-", "--json")
    process = await asyncio.create_subprocess_exec(
        *MODULE, *words, env=environment(), stdin=asyncio.subprocess.PIPE, stdout=-1, stderr=-1
    )
    async with asyncio.timeout(20):
        out, err = await process.communicate(text.encode())
    assert process.returncode == 0, err
    told = json.loads(out)
    assert (told["failed"], told["images"][0]["digest"]) == (0, image.digest)
    assert not err


async def test_failures_are_listed_at_the_end_and_the_exit_code_is_1(
    mirror: Mirror, image: Image, folder: Path
) -> None:
    ended = await warm(folder, "nginx", "nothing:1")
    assert ended.code == 1
    [*_, headline, line] = ended.out.splitlines()
    assert headline == "1 failed:"
    assert line.startswith("  docker.io/library/nothing:1: ")


async def test_a_dry_run_prints_the_cost(mirror: Mirror, image: Image, folder: Path) -> None:
    ended = await warm(folder, "nginx", "--dry-run")
    assert ended.code == 0
    [*_, cost, room] = ended.out.splitlines()
    assert cost == "would cost 1 pull and bytes that are not known before"
    assert room == "max_size has room for 50.0 GiB"
    assert not mirror.stored.digests
    assert (await mirror.manifest("library/nginx", "latest")).status == 200
    ended = await warm(folder, "nginx", "--dry-run")
    assert ended.out.splitlines()[-1] == "max_size has room for 50.0 GiB; 2.2 MiB would be needed"


async def test_the_pulls_that_are_left_are_said_at_the_end(
    hub: Hub, mirror: Mirror, image: Image, folder: Path
) -> None:
    hub.terms.limit = 20
    ended = await warm(folder, "nginx", "--leave", "5")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[-1] == "docker.io has 19 pulls left; 5 are to be left"


async def test_without_a_mirror_it_says_so_in_one_line(run: Run, folder: Path) -> None:
    async with run():
        pass
    ended = await warm(folder, "nginx")
    assert (ended.code, ended.out) == (2, "")
    assert "no mirror takes orders on" in ended.err
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "expected an image, or a file with images"),
        (("A B",), "invalid repository name"),
        (("nginx", "--platform", "x y"), "expected a platform"),
        (("nginx", "--leave", "-1"), "expected a number of pulls"),
        (("-f", "/nowhere/x"), "/nowhere/x cannot be read"),
        (("-f", "/dev/null"), "no image in /dev/null"),
    ],
)
async def test_wrong_words_are_refused_in_one_line(
    folder: Path, words: tuple[str, ...], expected: str
) -> None:
    ended = await warm(folder, *words)
    assert (ended.code, ended.out) == (2, "")
    assert expected in ended.err
    assert len(ended.err.splitlines()) == 1


async def test_an_interrupt_ends_the_order_at_once(hub: Hub, run: Run, folder: Path) -> None:
    hub.add(make_image(5, [1_000_000]), "library/big", "1")
    hub.faults.add(Fault(kind="blob", stall_after=10, times=None))
    async with run(abandon_after=0) as mirror:
        async with launched("warm", "--data-dir", folder, "big:1") as running:
            await hub.seen(lambda seen: seen.kind == "blob", within=10)
            running.send(signal.SIGINT)
            assert (await running.ended(5)).code == 130
        await until(lambda: not mirror.daemon.fetches.followers)


# Progress


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        """It is one."""
        return True


def progress(images: int = 1, received: int = 5 * 1024**2) -> WarmProgress:
    """Report on three images, of which one is half there."""
    running = (WarmingImage("docker.io/library/" + "long" * 20, received, 2 * received),)
    return WarmProgress(images, 3, 0, 2, received, 2 * received, running)


def test_a_terminal_has_a_bar_for_all_and_for_each_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    bars = WarmBars(screen)
    bars.show(progress())
    first = screen.getvalue()
    assert "]  50%  1 of 3 images, 5.0 MiB of 10.0 MiB, 2 pulls, " in first
    assert "[########........]  50%  5.0 MiB of 10.0 MiB" in first
    assert all(len(line.rpartition("\x1b[J")[2]) < 80 for line in first.splitlines())
    bars.show(progress(2))
    bars.clear()
    assert screen.getvalue().endswith("\r\x1b[1A\x1b[J")
    assert "\x1b[3" not in screen.getvalue()  # no colours


def test_elsewhere_there_is_a_line_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    for screen in (io.StringIO(), Screen()):
        monkeypatch.setenv("TERM", "dumb")
        now[0] = 0.0
        bars = WarmBars(screen, lambda: now[0])
        for second in range(25):
            now[0] = second
            bars.show(progress())
        bars.clear()
        lines = screen.getvalue().splitlines()
        assert lines[0].startswith("1 of 3 images, 5.0 MiB of 10.0 MiB, 2 pulls, ")
        assert (len(lines), "\x1b" in screen.getvalue()) == (2, False)


async def test_the_help_names_what_is_read() -> None:
    async with launched("warm", "--help", command=(sys.executable, "-m", "mirror")) as running:
        ended = await running.ended()
    assert ended.code == 0
    assert "Helm's output" in " ".join(ended.out.split())
