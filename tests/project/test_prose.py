"""The prose of `mirror`: nouns of the field, and no pronouns in their place.

Docstrings, comments and other strings are checked, room by room.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "mirror"

# The first is no folder.
ROOMS = (".", *sorted({path.parent.name for path in ROOT.glob("*/*.py")}))
_VALUES = frozenset({"nobody", "everyone"})  # of `private`

_FOLLOWING = (
    "is|was|are|were|has|had|comes?|came|goes|went|it|they|we|upstream|clients?|a|an|the|there|"
    "fails?|cannot|can|must|may|nobody"
)
PRONOUN = re.compile(
    r"\b(who|whom|whose|whoever|whomever|whatever|nobody|anybody|somebody|everybody|no one|anyone|"
    rf"someone|everyone|one that|those (who|that|which)|what ({_FOLLOWING}))\b",
    re.IGNORECASE,
)
MANNERISM = re.compile(r"\b((is|are) wanted|of (its|their) own)\b", re.IGNORECASE)
_NAME = re.compile(r"`[^`]*`")  # names of the code are not prose
_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def pronouns(text: str) -> list[str]:
    """Return the pronouns in a text that stand for a noun of the field."""
    return [] if text in _VALUES else _matches(PRONOUN, text)


def mannerisms(text: str) -> list[str]:
    """Return the phrases in a text that plain English has shorter."""
    return _matches(MANNERISM, text)


def _matches(pattern: re.Pattern[str], text: str) -> list[str]:
    return [match[0] for match in pattern.finditer(_NAME.sub("", text))]


def files(room: str) -> list[Path]:
    """Return the modules of a room; "." are those in no folder."""
    return sorted(ROOT.glob("*.py") if room == "." else (ROOT / room).rglob("*.py"))


def docstrings(source: str) -> Iterator[str]:
    """Return the docstrings of a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, _Documented) and (text := ast.get_docstring(node)):
            yield text


def strings(source: str) -> Iterator[str]:
    """Return all other strings of a module, also of its logs, errors and output."""
    tree = ast.parse(source)
    apart: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            apart.add(id(node.value))
        if isinstance(node, ast.JoinedStr):
            parts = [each for each in node.values if isinstance(each, ast.Constant)]
            apart.update(map(id, parts))
            yield "…".join(str(each.value) for each in parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in apart:
            yield node.value


def comments(source: str) -> Iterator[str]:
    """Return the comments of a module, line by line."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def wrong(
    room: str,
    texts: Callable[[str], Iterator[str]],
    faults: Callable[[str], list[str]] = pronouns,
) -> list[str]:
    """Return the texts of a room that have faults, each with its file."""
    return [
        f"{path.relative_to(ROOT)}: {text!r}"
        for path in files(room)
        for text in texts(path.read_text())
        if faults(text)
    ]


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("texts", [docstrings, strings, comments])
def test_the_subject_of_a_sentence_is_a_noun(
    room: str, texts: Callable[[str], Iterator[str]]
) -> None:
    found = wrong(room, texts)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("texts", [docstrings, strings, comments])
def test_no_sentence_has_a_mannerism(room: str, texts: Callable[[str], Iterator[str]]) -> None:
    found = wrong(room, texts, mannerisms)
    assert not found, "\n".join(found)


def test_every_folder_is_a_room() -> None:
    folders = {path.parent.relative_to(ROOT).parts[0] for path in ROOT.glob("*/*.py")}
    assert {*folders, "."} == {*ROOMS}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Tell who asks from whoever waits.", 2),
        ("What is here is given to nobody.", 2),
        ("Return one that fits.", 1),
        ("Those who wait, and what upstream said.", 2),
        ("Return the clients that wait; `nobody` asks without an account.", 0),
        ("A manifest that was fetched; the whole of it.", 0),
    ],
)
def test_pronouns_are_told_from_nouns(text: str, count: int) -> None:
    assert len(pronouns(text)) == count


def test_mannerisms_are_told_from_plain_english() -> None:
    assert mannerisms("A number is wanted, on a thread of its own.") == ["is wanted", "of its own"]
    assert not mannerisms("The wanted bytes of the upstream's own host.")


def test_messages_comments_and_docstrings_are_told_apart() -> None:
    source = '"""Doc."""\n# A note.\nraise ValueError(f"a {1} b" + "c")\n'
    assert list(docstrings(source)) == ["Doc."]
    assert list(comments(source)) == ["# A note."]
    assert sorted(strings(source)) == ["a … b", "c"]
