"""The house keeps its shape: sizes of rooms and files, one meaning of a name, wrapped docs."""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
MIRROR = PROJECT / "mirror"
MODULES = sorted(MIRROR.rglob("*.py"))
PAGES = [
    *(PROJECT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((PROJECT / "docs").rglob("*.md")),
]

LONGEST_FILE = 300  # lines
WIDEST = 100  # characters of a line of the docs
# Names that two classes may have, because both are the same thing in two rooms.
SHARED = {
    "Console": "the protocol by which the web room knows the console, and the console",
    "History": "a history, and the part of it that an order is answered with",
    "NotStored": "the refusal of an order, and the error of the store that it tells of",
    "RecentRequests": "the requests noted, and those that an order is answered with",
    "TopRow": "a row of the index, and of the list that an order is answered with",
    "Unavailable": "the refusal of an order, and the error of the store that it tells of",
}


def length(path: Path) -> int:
    """Return the number of lines of a file."""
    return len(path.read_text().splitlines())


def room(path: Path) -> str:
    """Return the room of a module."""
    return path.relative_to(MIRROR).parts[0]


def classes(path: Path) -> Iterator[str]:
    """Return the names of a module's classes that other modules may import."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name


def prose(text: str) -> Iterator[tuple[int, str]]:
    """Return the numbered lines of a page that can be wrapped.

    Code, tables, pictures, and items that are one name cannot.
    """
    in_code = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            in_code = not in_code
        elif not in_code and not re.match(r"\||!\[|\s*- `[^`]+`$", line):
            yield number, line


def test_no_file_is_longer_than_300_lines() -> None:
    lengths = {str(path.relative_to(MIRROR)): length(path) for path in MODULES}
    assert {name: count for name, count in lengths.items() if count > LONGEST_FILE} == {}


def test_no_room_has_more_than_a_fifth_of_the_lines() -> None:
    lines: Counter[str] = Counter()
    for path in MODULES:
        lines[room(path)] += length(path)
    assert {name: count for name, count in lines.items() if 5 * count > lines.total()} == {}


def test_a_class_name_means_one_thing() -> None:
    places = defaultdict(list)
    for path in MODULES:
        for name in classes(path):
            places[name].append(str(path.relative_to(MIRROR)))
    shared = {name: found for name, found in places.items() if len(found) > 1}
    assert {name: found for name, found in shared.items() if name not in SHARED} == {}
    assert all(len(found) == 2 for found in shared.values())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_the_docs_are_wrapped_at_100_columns(page: Path) -> None:
    wide = [
        f"{page.name}:{number}" for number, line in prose(page.read_text()) if len(line) > WIDEST
    ]
    assert not wide


def test_prose_is_told_from_code_and_tables() -> None:
    text = "Words.\n```sh\ncode\n```\n| a | b |\n- `a/test_b.py::test_c`\n- `a`: words\n![x](y)\n"
    assert [line for _, line in prose(text)] == ["Words.", "- `a`: words"]
