"""The browser of all tests in this folder, and the pictures that they take."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import AXE, BINARY, Chromium, chromium


@pytest.fixture(scope="session")
def browser() -> Iterator[Chromium]:
    """A browser, for one page at a time."""
    if not BINARY.exists() or not AXE.exists():
        pytest.fail("needs Debian's chromium and chromium-driver, and `npm ci` in tests/browser")
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def pictures() -> Path | None:
    """The folder for pictures of the pages; None if none are wanted."""
    folder = os.environ.get("PICTURES")
    return Path(folder).absolute() if folder else None
