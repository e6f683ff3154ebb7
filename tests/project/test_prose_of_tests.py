"""The prose of `tests`: short names, and docstrings with nouns of the field as in `mirror`.

Each folder's pronouns are held to a figure that may only go down.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.project.test_prose import docstrings, pronouns

ROOT = Path(__file__).parents[1]
FOLDERS = (".", *sorted({path.relative_to(ROOT).parts[0] for path in ROOT.glob("*/*.py")}))

MOST = 3  # percent of a folder's docstrings that may have a pronoun
MOST_YET = {  # of folders that are not done
    ".": 12,
}
LONGEST = 70  # characters of a test's name


def files(folder: str) -> list[Path]:
    """Return the modules of a folder; "." are those in no folder."""
    return sorted(ROOT.glob("*.py") if folder == "." else (ROOT / folder).rglob("*.py"))


def names(source: str) -> list[str]:
    """Return the names of a module's tests."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = (node.name for node in ast.walk(ast.parse(source)) if isinstance(node, functions))
    return [name for name in found if name.startswith("test_")]


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_subject_of_a_docstring_is_a_noun(folder: str) -> None:
    texts = [text for path in files(folder) for text in docstrings(path.read_text())]
    found = [text for text in texts if pronouns(text)]
    assert 100 * len(found) <= MOST_YET.get(folder, MOST) * len(texts), "\n".join(found)


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_name_of_a_test_is_short(folder: str) -> None:
    found = [name for path in files(folder) for name in names(path.read_text())]
    longer = [name for name in found if len(name) > LONGEST]
    assert not longer, "\n".join(longer)
