"""The line of each key in a TOML file."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TypeAlias

Path: TypeAlias = tuple[str, ...]  # of a key: the tables that lead to it, and its name

_QUOTED = re.compile(r""""(?:[^"\\]|\\.)*"|'[^']*'""")


def lines_of(text: str) -> dict[Path, int]:
    """Return the line, from 1, on which each table and each key begins; `text` is valid TOML.

    The grammar is left to `tomllib`: a statement ends where it can be parsed alone, and no part of
    a statement can be. Each line of a long array would take longer than the one before (2,000
    entries: 2.8 s, measured), so only a line that may end a statement is tried.
    """
    found: dict[Path, int] = {}
    numbers: Counter[Path] = Counter()  # of the tables in lists
    table: Path = ()
    for line, statement, values in _statements(text):
        if statement.startswith("["):
            table = max(_paths(values), key=len)
            found.setdefault(table, line)
            if statement.startswith("[["):
                numbers[table] += 1
                table = (*table, str(numbers[table] - 1))
                found[table] = line
        for path in _paths(values) if not statement.startswith("[") else ():
            found.setdefault((*table, *path), line)
    return found


def _statements(text: str) -> Iterator[tuple[int, str, dict[str, object]]]:
    """Yield each statement: its line, its text, and its values."""
    pending: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        pending.append(line.removesuffix("\r"))
        if len(pending) > 1 and not _may_end(line):
            continue
        statement = "\n".join(pending)
        try:
            values = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        if values:
            yield number - len(pending) + 1, statement.lstrip(), values
        pending.clear()


def _may_end(line: str) -> bool:
    """Whether a statement of several lines, an array or string in TOML 1.0, may end here."""
    return '"""' in line or "'''" in line or "]" in _QUOTED.sub("", line).partition("#")[0]


def _paths(values: object) -> Iterator[Path]:
    """Yield the paths to all values in a table, and in the last table of a list."""
    if isinstance(values, list):
        values = values[-1] if values else None
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield (str(key),)
            yield from ((str(key), *rest) for rest in _paths(value))
