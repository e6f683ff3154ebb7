"""`make test-pythons` finds the newest Python of each supported minor version."""

from __future__ import annotations

import sys
from pathlib import Path

from tests import pythons


def test_the_newest_python_of_each_supported_minor_version_is_chosen() -> None:
    found = [
        ((3, 13, 0), Path("/c")),
        ((3, 11, 7), Path("/b")),
        ((3, 10, 13), Path("/old")),
        ((3, 11, 2), Path("/a")),
        ((2, 7, 18), Path("/older")),
    ]
    assert pythons.newest(found) == [((3, 11, 7), Path("/b")), ((3, 13, 0), Path("/c"))]


def test_a_python_that_does_not_run_is_passed_over() -> None:
    assert pythons.version(Path("/bin/false")) is None
    assert pythons.version(Path(sys.executable)) == sys.version_info[:3]
