"""Layouts are written with the caller's rights, where the caller said, and appear whole or not."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mirror.admin.archives.tar_writer import LayoutWriter
from mirror.cli.archives.writing import open_writer
from mirror.util.command_error import CommandError

NOBODY = 65534
OUTPUTS = pytest.mark.parametrize("name", ["out.tar", "out"])


def opened(path: Path) -> LayoutWriter:
    """Return the writer of a layout."""
    return open_writer(str(path), io.BytesIO(), force=False)


def fill(writer: LayoutWriter) -> None:
    """Write two files."""
    writer.begin("blobs/sha256/aa", 3)
    writer.write(b"abc")
    writer.begin("index.json", 2)
    writer.write(b"{}")


def content(path: Path) -> dict[str, bytes]:
    """Return the files of a layout."""
    if path.is_dir():
        files = (each for each in path.rglob("*") if each.is_file())
        return {str(each.relative_to(path)): each.read_bytes() for each in files}
    with tarfile.open(path) as archive:
        found = {each.name: archive.extractfile(each) for each in archive.getmembers()}
        return {name: file.read() for name, file in found.items() if file}


@contextmanager
def acting_as(user: int) -> Iterator[None]:
    """Act as another user, as a command of root's does without a daemon."""
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)


@OUTPUTS
def test_a_layout_appears_once_it_is_whole(tmp_path: Path, name: str) -> None:
    writer = opened(tmp_path / name)
    fill(writer)
    assert not (tmp_path / name).exists()
    writer.finish()
    assert content(tmp_path / name) == {"blobs/sha256/aa": b"abc", "index.json": b"{}"}
    assert [each.name for each in tmp_path.iterdir()] == [name]


@OUTPUTS
def test_an_abandoned_layout_leaves_nothing(tmp_path: Path, name: str) -> None:
    writer = opened(tmp_path / name)
    fill(writer)
    writer.abandon()
    assert not [*tmp_path.iterdir()]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@OUTPUTS
def test_a_layout_is_the_callers_and_so_is_the_folder_that_it_lies_in(
    tmp_path: Path, name: str
) -> None:
    tmp_path.chmod(0o700)
    writer = opened(tmp_path / name)
    with acting_as(NOBODY):
        fill(writer)
        writer.finish()
        assert os.geteuid() == NOBODY
    assert len(content(tmp_path / name)) == 2
    assert {each.stat().st_uid for each in tmp_path.rglob("*")} == {0}


@OUTPUTS
def test_a_link_in_the_place_of_an_unfinished_layout_is_not_followed(
    tmp_path: Path, name: str
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    writer = opened(tmp_path / name)
    [unfinished] = [each for each in tmp_path.iterdir() if each != secret]
    unfinished.rename(tmp_path / "moved")
    unfinished.symlink_to(secret)
    fill(writer)
    writer.finish()
    assert not [*secret.iterdir()]


@pytest.mark.parametrize("what", ["file", "folder", "link"])
def test_what_is_there_already_is_left_alone(tmp_path: Path, what: str) -> None:
    taken = tmp_path / "out.tar"
    if what == "file":
        taken.write_text("mine")
    elif what == "folder":
        taken.mkdir()
    else:
        taken.symlink_to(tmp_path / "nowhere")
    with pytest.raises(CommandError, match="exists"):
        opened(taken)
    assert [each.name for each in tmp_path.iterdir()] == ["out.tar"]


def test_an_archive_of_more_than_8_gib_has_its_size_in_a_header(tmp_path: Path) -> None:
    out = io.BytesIO()
    writer = open_writer("-", out, force=False)
    writer.begin("blobs/sha256/large", 9 * 2**30)
    head = tarfile.TarInfo.frombuf(out.getvalue()[:512], "utf-8", "strict")
    assert head.type == tarfile.XHDTYPE  # pax: the octal field ends at 8 GiB
    assert f"size={9 * 2**30}\n".encode() in out.getvalue()
