"""The data folder belongs to the mirror alone, and honest deployments go on working."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mirror.storage.data_folder import DataFolder
from mirror.storage.errors import StoreError
from tests.support.command import NOBODY, serve_to_the_end

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def prepared(root: Path) -> None:
    """Make and lock a data folder."""
    folder = DataFolder(root)
    try:
        folder.prepare()
    finally:
        folder.release()


@pytest.mark.parametrize("name", ["blobs", "blobs/sha256", "partial", "quarantine"])
def test_no_folder_is_reached_through_a_link(tmp_path: Path, name: str) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (data / name).parent.mkdir(parents=True)
    (data / name).symlink_to(elsewhere)
    with pytest.raises(StoreError, match=rf"{name} is a link to .*elsewhere.*remove it"):
        prepared(data)
    assert not any(elsewhere.iterdir())


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_no_blob_is_kept_or_found_behind_a_link(tmp_path: Path, algorithm: str) -> None:
    shard = tmp_path / "data" / "blobs" / algorithm / "ab"
    (tmp_path / "elsewhere").mkdir()
    shard.parent.mkdir(parents=True)
    shard.symlink_to(tmp_path / "elsewhere")
    options = ("--listen", "127.0.0.1:0", "--data-dir", tmp_path / "data", "--upstream", NOBODY)
    ended = await serve_to_the_end(*options)
    assert ended.code == 2
    assert f"{shard} is a link to {tmp_path / 'elsewhere'}" in ended.err
    assert "Traceback" not in ended.err


def test_a_path_that_is_no_folder_of_blobs_is_left_alone(tmp_path: Path) -> None:
    """A name that is not a blob's does not belong to the mirror, and no file is ever put there."""
    (tmp_path / "data/blobs/sha256/ab").mkdir(parents=True)
    (tmp_path / "data/blobs/sha256/old").symlink_to(tmp_path)
    (tmp_path / "data/blobs/sha256/notes").write_text("mine")
    prepared(tmp_path / "data")
    (tmp_path / "data/blobs/sha256/cd").write_text("mine")
    with pytest.raises(StoreError, match=r"sha256/cd is not a plain folder: remove it"):
        prepared(tmp_path / "data")


@pytest.mark.parametrize("name", ["lock", "index.db", "index.db-wal"])
async def test_no_file_is_written_through_a_link(tmp_path: Path, name: str) -> None:
    data, mine = tmp_path / "data", tmp_path / "mine"
    mine.write_text("mine")
    data.mkdir()
    (data / name).symlink_to(mine)
    options = ("--listen", "127.0.0.1:0", "--data-dir", data, "--upstream", NOBODY)
    ended = await serve_to_the_end(*options)
    assert ended.code == 2
    assert f"{name} is a link to {mine}" in ended.err
    assert mine.read_text() == "mine"


def test_the_data_folder_itself_may_be_a_link_of_the_operators(tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "large")
    prepared(tmp_path / "data")
    assert (tmp_path / "large" / "blobs").is_dir()


@ROOT
def test_a_folder_that_another_made_where_everybody_may_is_refused(tmp_path: Path) -> None:
    public = tmp_path / "public"
    (public / "data").mkdir(parents=True)
    public.chmod(0o1777)
    os.chown(public / "data", 12345, 12345)
    with pytest.raises(StoreError, match=r"belongs to user 12345.*--data-dir"):
        prepared(public / "data")


def test_a_folder_that_everybody_may_write_into_is_closed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o777)
    prepared(data)
    assert data.stat().st_mode & 0o777 == 0o775


def test_a_folder_that_a_group_may_write_into_is_used(tmp_path: Path) -> None:
    """A volume of Kubernetes with `fsGroup` belongs to root and the group, with the setgid bit."""
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o2775)
    prepared(data)
    assert data.stat().st_mode & 0o7777 == 0o2775
