"""A refusal to start is exit code 2 and one line with the reason, never a traceback."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.settings import ConfigurationError
from mirror.storage import lock
from mirror.storage.errors import StoreError
from mirror.storage.shared_folders import refuse_shared
from tests.support.command import MODULE, NOBODY, Ended, fetch, launched, serve_to_the_end, serving
from tests.support.folder import DataFolder
from tests.support.mirror import Run

NOBODYS = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *MODULE)
AS_NOBODY = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root becomes another user"
)


def refused(ended: Ended) -> str:
    """Return the one line with the reason of a refusal to start."""
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

    told = rf"^listen is '{host}:0': .* choose another address or port$"
    with pytest.raises(ConfigurationError, match=told):
        await start()


async def test_a_second_daemon_on_the_same_folder_stops_with_one_line(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with serving(data, "--upstream", NOBODY) as first:
        url = await first.address()
        line = refused(await serve_to_the_end("--listen", "127.0.0.1:0", "--data-dir", data))
        assert str(data) in line
        assert f"another mirror is using the data folder {data}: process {first.pid}" in line
        assert (await fetch(f"{url}/readyz"))[0] == 200


async def test_after_a_kill_the_next_daemon_is_not_told_of_the_dead_one(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with serving(data, "--upstream", NOBODY) as first:
        await first.address()
        dead = first.pid
    async with serving(data, "--upstream", NOBODY) as second:
        await second.address()
        line = refused(await serve_to_the_end("--listen", "127.0.0.1:0", "--data-dir", data))
        assert f"process {second.pid}" in line
        assert f"process {dead}" not in line


@pytest.mark.parametrize("text", ["", "no number\n", "12 " + "h" * 300 + "\n", "\x00" * 600])
def test_a_lock_that_does_not_say_whose_it_is_is_a_lock_all_the_same(
    tmp_path: Path, text: str
) -> None:
    with lock.take(tmp_path):
        (tmp_path / "lock").write_text(text)
        with pytest.raises(StoreError, match=rf"is using the data folder {tmp_path}$"):
            lock.take(tmp_path)


def test_a_process_of_another_host_is_named_with_that(tmp_path: Path) -> None:
    """In a container each mirror is process 1, and its host is the container's id."""
    with lock.take(tmp_path):
        (tmp_path / "lock").write_text("1 4f2a9c\n")
        with pytest.raises(StoreError, match=r"process 1 on 4f2a9c$"):
            lock.take(tmp_path)


def test_a_disk_that_takes_no_name_gives_the_lock_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with (
        lock.take(tmp_path),
        pytest.raises(StoreError, match=rf"is using the data folder {tmp_path}$"),
    ):
        lock.take(tmp_path)
    lock.take(tmp_path).close()


def looks_of(folder: str) -> tuple[int | None, bool]:
    """Return a folder's mode, if it is there, and whether a mirror has been in it."""
    path = Path(folder)
    return (path.stat().st_mode if path.exists() else None), (path / "blobs").exists()


@pytest.mark.parametrize(
    "folder",
    ["/", "//", "/etc", "/etc/mirror", "/usr", "/usr/bin/x", "/var/lib", "/home/robot", "/proc/1"],
)
async def test_a_folder_of_the_systems_is_no_data_folder(folder: str) -> None:
    before = looks_of(folder)
    line = refused(await serve_to_the_end("--listen", "127.0.0.1:0", "--data-dir", folder))
    for part in ("data_dir is '", "choose a folder for the mirror alone, such as /"):
        assert part in line
    assert looks_of(folder) == before


def test_a_relative_folder_is_refused_for_where_it_leads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").symlink_to("/etc")
    with pytest.raises(StoreError, match="a folder for the mirror alone"):
        refuse_shared(tmp_path / "data")
    monkeypatch.chdir("/")
    with pytest.raises(StoreError, match="a folder for the mirror alone"):
        refuse_shared(Path())


@pytest.mark.parametrize("name", ["/var/lib/mirror", "/srv/mirror", "/home/robot/mirror", "/data"])
def test_a_folder_of_its_own_is_a_data_folder(name: str) -> None:
    refuse_shared(Path(name))


# Files that the mirror may not read or write. Its user is not root: no mode keeps root out.


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may reach."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@AS_NOBODY
async def test_a_folder_of_another_users_is_named_with_both_users_and_what_to_do(
    open_folder: Path,
) -> None:
    data = open_folder / "data"
    data.mkdir(mode=0o755)
    options = ("--listen", "127.0.0.1:0", "--data-dir", data)
    line = refused(await serve_to_the_end(*options, command=NOBODYS))
    assert line == (
        f"mirror: cannot write to the data folder {data}: Permission denied for user nobody; "
        f"{data} belongs to root: `chown -R nobody {data}` makes it that user's"
    )


@AS_NOBODY
async def test_a_folder_that_cannot_be_made_is_named_with_how_to_make_it(open_folder: Path) -> None:
    options = ("--listen", "127.0.0.1:0", "--data-dir", open_folder / "a" / "data")
    line = refused(await serve_to_the_end(*options, command=NOBODYS))
    assert f"{open_folder} belongs to root: `install -d -o nobody {open_folder}/a/data`" in line


@AS_NOBODY
@pytest.mark.parametrize("name", ["index.db", "lock", "key", "blobs", "partial"])
async def test_what_another_user_made_in_the_folder_is_named(open_folder: Path, name: str) -> None:
    data = open_folder / "data"
    async with serving(data, "--upstream", NOBODY) as roots:
        await roots.address()
        roots.send(signal.SIGTERM)
        await roots.ended()
    for path in (data, *data.rglob("*")):
        os.chown(path, 65534, 65534)
    os.chown(data / name, 0, 0)
    line = refused(
        await serve_to_the_end("--listen", "127.0.0.1:0", "--data-dir", data, command=NOBODYS)
    )
    for part in (f"{data / name} belongs to root", "user nobody", f"`chown -R nobody {data}`"):
        assert part in line


@AS_NOBODY
async def test_a_file_that_the_mirror_may_not_read_is_named_with_both_users(
    open_folder: Path,
) -> None:
    (open_folder / "word").touch(mode=0o600)
    (open_folder / "closed").mkdir(mode=0o700)
    config = open_folder / "mirror.toml"
    config.write_text(
        f'htpasswd = "{open_folder}/closed/users"\n'
        f'tls_cert = "{open_folder}/word"\ntls_key = "{open_folder}/word"\n'
        f'[upstreams."docker.io"]\nusername = "robot"\npassword_file = "{open_folder}/word"\n'
    )
    config.chmod(0o644)
    async with launched("check", "--config", config, command=NOBODYS) as command:
        lines = (await command.ended()).out.splitlines()
    of = "cannot be read: Permission denied for user nobody; {} belongs to root with mode 0{}"
    for key, path, mode in (
        ("tls_key", "word", 600),
        ("upstreams.docker.io.password_file", "word", 600),
        ("htpasswd", "closed", 700),
    ):
        [line] = [line for line in lines if line.startswith(f"{key} (line ")]
        assert of.format(open_folder / path, mode) in line
    config.chmod(0o600)
    line = refused(await serve_to_the_end("--config", config, command=NOBODYS))
    assert line.startswith(f"mirror: {config}: {of.format(config, 600)}")


@AS_NOBODY
async def test_a_check_names_closed_files_of_the_data_folder_and_changes_none(
    open_folder: Path,
) -> None:
    data = open_folder / "data"
    async with serving(data, "--upstream", NOBODY) as roots:
        await roots.address()
        roots.send(signal.SIGTERM)
        await roots.ended()
    os.chown(data, 65534, 65534)
    before = sorted((path, path.stat().st_mtime_ns) for path in data.rglob("*"))
    env = {"MIRROR_DATA_DIR": str(data), "MIRROR_LISTEN": "127.0.0.1:0"}
    async with launched("check", command=NOBODYS, env=env) as command:
        ended = await command.ended()
    assert ended.code == 1
    for name in ("blobs", "partial", "index.db", "lock", "key"):
        [line] = [
            line for line in ended.out.splitlines() if f"cannot write to {data / name}:" in line
        ]
        assert line.startswith(f"data_dir (MIRROR_DATA_DIR) is '{data}': ")
        assert f"`chown -R nobody {data}` makes it that user's" in line
    assert sorted((path, path.stat().st_mtime_ns) for path in data.rglob("*")) == before


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
    with DataFolder(tmp_path / "data").database() as other:
        other.execute("PRAGMA user_version=1")
    options = ("--listen", "127.0.0.1:0", "--data-dir", tmp_path / "data")
    assert "index.db" in refused(await serve_to_the_end(*options))


async def test_an_index_of_a_newer_version_stops_it_with_one_line(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    folder.path.mkdir()
    with folder.database() as newer:
        newer.execute("PRAGMA user_version=99")
    line = refused(
        await serve_to_the_end("--listen", "127.0.0.1:0", "--data-dir", tmp_path / "data")
    )
    for part in (str(folder.index), "newer version", "schema 99", "upgrade"):
        assert part in line
    assert folder.rows("PRAGMA user_version") == [(99,)]


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
        "expected a duration: seconds, such as 60 or 2.5, "
        'or "5m", "1h30m", "30d"'
    )


async def test_an_unknown_flag_stops_it(tmp_path: Path) -> None:
    ended = await serve_to_the_end("--tagttl", "60")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("mirror: unrecognized arguments: --tagttl 60; ")
