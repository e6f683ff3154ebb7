"""No other room reaches into the store's internals, or knows its disk."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

MIRROR = Path(__file__).parents[2] / "mirror"
CONTENT = ("access", "admin", "budget", "content", "web")  # rooms that work with stored content


def outside(*rooms: str) -> list[Path]:
    """Return the files of these rooms, or of all rooms except the storage."""
    found = sorted(MIRROR.rglob("*.py"))
    inside = [path.relative_to(MIRROR).parts[0] for path in found]
    return [
        path
        for path, room in zip(found, inside, strict=True)
        if room != "storage" and (not rooms or room in rooms)
    ]


def places(pattern: str, paths: list[Path]) -> list[str]:
    """Return the places of the lines that match a pattern."""
    return [
        f"{path.relative_to(MIRROR)}:{number}"
        for path in paths
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(pattern, line)
    ]


@pytest.mark.parametrize(
    "pattern",
    [
        r"store\.(accounting|quota|blobs|files|threads)\b",
        r"\.(readers|changed_at)\b *(=|\+=|-=)[^=]",
        r"store\.\w+(\.\w+|\[[^\]]*\])* *(=|\+=|-=) ",
    ],
    ids=["parts", "an entry's facts", "values"],
)
def test_no_other_room_touches_the_insides_of_the_store(pattern: str) -> None:
    assert places(pattern, outside()) == []


def test_no_room_of_content_knows_a_file_of_the_store() -> None:
    """Descriptors come from `BlobReader.fileno` only, for sendfile; no path and no error number."""
    rooms = [path for path in outside(*CONTENT) if path != MIRROR / "web/sending.py"]
    assert places(r"IO\[bytes\]|\bos\.(pread|preadv|dup|sendfile)\b|\.fileno\(", rooms) == []
    content = [path for path in rooms if path.is_relative_to(MIRROR / "content")]
    assert places(r"\berrno\b|\bOSError\b", content) == []


def test_only_the_core_and_the_storage_name_a_concrete_store() -> None:
    """`app/core.py` chooses the implementations; all other rooms know the protocols and rows."""
    concrete = (
        r"mirror\.storage\.(blobs\.(?!protocol)|metadata\.(?!protocol|rows)|accounting|quota)"
    )
    rooms = [path for path in outside() if path != MIRROR / "app/core.py"]
    assert places(concrete, rooms) == []
    assert places(concrete, [MIRROR / "app/core.py"]) != []  # the pattern finds what it is for
