"""`max_size` may be a part of the file system of the data folder."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from mirror.app.max_size import in_bytes
from mirror.settings import ConfigurationError, load


def test_a_part_of_a_file_system_that_cannot_be_looked_at_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr("shutil.disk_usage", gone)
    with pytest.raises(ConfigurationError, match=r"max_size is '80%', and .* Stale file handle"):
        in_bytes(load({"max_size": "80%"}).max_size, tmp_path)


def test_max_size_may_be_a_part_of_the_file_system(tmp_path: Path) -> None:
    total = shutil.disk_usage(tmp_path).total
    bound = load({"max_size": "80%"}).max_size
    assert in_bytes(bound, tmp_path / "not" / "there") == int(total * 80 / 100)
