"""Refusing to start: exit code 2 and one line that says why, never a traceback."""

from __future__ import annotations

import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mirror.settings import ConfigurationError
from tests.command import NOBODY, Ended, fetch, serve_to_the_end, serving
from tests.conftest import Run


def refused(ended: Ended) -> str:
    """Return the one line that says why it would not start."""
    assert (ended.code, ended.out) == (2, ""), ended
    lines = [line for line in ended.err.splitlines() if " INFO " not in line]
    assert len(lines) == 1, ended.err
    assert lines[0].startswith("mirror: ")
    return lines[0]


async def test_an_address_in_use_stops_it_with_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        line = refused(await serve_to_the_end("--listen", listen, "--data-dir", tmp_path / "data"))
    for part in ("listen", listen, "in use", "another address or port"):
        assert part in line


@pytest.mark.parametrize("host", ["a..b", "127.0.0.256"])
async def test_a_host_that_cannot_be_is_called_that(run: Run, host: str) -> None:
    async def start() -> None:
        async with run(listen=f"{host}:0"):
            pass

    with pytest.raises(ConfigurationError, match=rf"^listen is '{host}:0': .* is wanted$"):
        await start()


async def test_a_second_daemon_on_the_same_folder_stops_with_one_line(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with serving(data, "--upstream", NOBODY) as first:
        url = await first.address()
        line = refused(await serve_to_the_end("--listen", "127.0.0.1:0", "--data-dir", data))
        assert str(data) in line
        assert "another mirror" in line
        assert (await fetch(f"{url}/readyz"))[0] == 200


async def test_a_folder_that_cannot_be_written_stops_it_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    data = tmp_path / "file" / "data"
    line = refused(await serve_to_the_end("--listen", "127.0.0.1:0", "--data-dir", data))
    assert "cannot write" in line
    assert str(data) in line


async def test_an_index_that_cannot_be_opened_stops_it_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "data" / "index.db").mkdir(parents=True)
    options = ("--listen", "127.0.0.1:0", "--data-dir", tmp_path / "data")
    assert "index.db" in refused(await serve_to_the_end(*options))


async def test_an_index_of_another_program_stops_it_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with closing(sqlite3.connect(tmp_path / "data" / "index.db")) as other:
        other.execute("PRAGMA user_version=1")
    options = ("--listen", "127.0.0.1:0", "--data-dir", tmp_path / "data")
    assert "index.db" in refused(await serve_to_the_end(*options))


async def test_an_index_of_a_newer_version_stops_it_with_one_line(tmp_path: Path) -> None:
    path = tmp_path / "data" / "index.db"
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA user_version=99")
    line = refused(
        await serve_to_the_end("--listen", "127.0.0.1:0", "--data-dir", tmp_path / "data")
    )
    for part in (str(path), "newer version", "schema 99", "upgrade"):
        assert part in line
    with closing(sqlite3.connect(path)) as newer:
        assert newer.execute("PRAGMA user_version").fetchone() == (99,)


async def test_a_stray_file_among_the_blobs_keeps_it_from_nothing(tmp_path: Path) -> None:
    stray = tmp_path / "data" / "blobs" / "sha256" / "stray"
    stray.parent.mkdir(parents=True)
    stray.touch()
    async with serving(tmp_path / "data", "--upstream", NOBODY) as mirror:
        assert (await fetch(f"{await mirror.address(within=5)}/readyz"))[0] == 200


async def test_a_bad_configuration_stops_it_with_one_line(tmp_path: Path) -> None:
    file = tmp_path / "mirror.toml"
    file.write_text('tag_ttl = "often"')
    ended = await serve_to_the_end(env={"MIRROR_CONFIG": str(file)})
    assert refused(ended) == (
        f"mirror: tag_ttl (line 1 of {file}) is 'often': "
        "a duration is wanted: seconds, such as 60 or 2.5, "
        'or "5m", "1h30m", "30d"'
    )


async def test_a_flag_nobody_knows_stops_it(tmp_path: Path) -> None:
    ended = await serve_to_the_end("--tagttl", "60")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("mirror: unrecognized arguments: --tagttl 60; ")
