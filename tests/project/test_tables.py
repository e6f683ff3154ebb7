"""Every table of answers is listed in docs/architecture.md, with its key, content and bound."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import mirror

FOLDER = Path(mirror.__file__).parent
PAGE = FOLDER.parent / "docs" / "architecture.md"
TABLES = re.compile(
    r"\b(EvictingCache|LRUCache|TTLCache|TLRUCache|SingleFlight|OrderedDict|defaultdict|dict|Sizes)\b"
)
ROW = re.compile(r"^\| `([a-z_/]+\.py)` `([A-Za-z_]+)` \|(.+)\|(.+)\|(.+)\|(.+)\|$", re.MULTILINE)


def tables() -> Iterator[tuple[str, str]]:
    """Find the tables that outlive a call: objects' attributes, by their annotations."""
    parts = ("upstream", "access", "budget", "content", "web", "storage", "statistics")
    paths = [path for part in parts for path in (FOLDER / part).rglob("*.py")]
    # The tables of other helpers are listed by their owners.
    for path in [*paths, FOLDER / "util" / "fair_semaphore.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            found = _attribute(node)
            if found is not None:
                yield str(path.relative_to(FOLDER)), found


def _attribute(node: ast.AST) -> str | None:
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute):
        return node.target.attr if TABLES.search(ast.unparse(node.annotation)) else None
    if isinstance(node, ast.FunctionDef) and node.returns is not None:  # made at its first use
        cached = any("cached_property" in ast.unparse(each) for each in node.decorator_list)
        return node.name if cached and TABLES.search(ast.unparse(node.returns)) else None
    if isinstance(node, ast.ClassDef):
        bases = " ".join(map(ast.unparse, node.bases))
        return node.name if TABLES.search(bases) else None
    return None


def test_every_table_is_listed_with_its_key_and_its_bound() -> None:
    listed = {(row[1], row[2]) for row in ROW.finditer(PAGE.read_text())}
    found = set(tables())
    assert found - listed == set(), "not listed"
    assert listed - found == set(), "not there any more"


def test_every_row_says_all_four() -> None:
    for row in ROW.finditer(PAGE.read_text()):
        assert all(cell.strip() for cell in row.groups()), row[0]
