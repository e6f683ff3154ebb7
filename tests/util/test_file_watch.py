"""The watch on files: each change is reported once, a missing file as one change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mirror.util.file_watch import FileWatch


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two files of one byte."""
    made = [tmp_path / "one", tmp_path / "two"]
    for file in made:
        file.write_text("1")
    return made


async def test_a_change_is_reported_once(files: list[Path]) -> None:
    watch = FileWatch(*files)
    assert not await watch.changed()
    files[1].write_text("22")
    assert await watch.changed()
    assert not await watch.changed()


async def test_a_replaced_file_has_changed_even_with_the_same_time(files: list[Path]) -> None:
    watch, stat = FileWatch(*files), files[0].stat()
    other = files[0].with_name("other")
    other.write_text("1")
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(files[0])
    assert await watch.changed()


async def test_a_missing_file_is_one_change_and_its_return_another(files: list[Path]) -> None:
    watch = FileWatch(*files)
    files[0].unlink()
    assert await watch.changed()
    files[1].write_text("22")
    assert not await watch.changed()
    files[0].write_text("1")
    assert await watch.changed()
