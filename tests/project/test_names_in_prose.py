"""Every name in the docs and docstrings exists: files, classes, their members, and functions.

Names are backquoted. A part that is renamed is renamed in the prose, too.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import keyword
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PAGES = sorted([PROJECT / "README.md", *(PROJECT / "docs").rglob("*.md")])
OF_THE_DESIGN = frozenset({"architecture.md", "development.md"})  # each name in them is the code's

_QUOTED = re.compile(r"`([^`\n]+)`")
_FILE = re.compile(r"([\w./-]+\.py)(?:: ?(\w+))?")
_CLASS = re.compile(r"(_?[A-Z]\w*[a-z]\w*)(?:\.(\w+))?")
_DOTTED = re.compile(r"([a-z]\w*)\.([A-Za-z_]\w*)")
_NAME = re.compile(r"[A-Za-z_]\w*")
_FOREIGN = frozenset(
    {
        *("certs.d", "config.json", "control.sock", "daemon.json", "hosts.toml", "index.db"),
        *("mirror.toml", "containerd.io", "docker.io", "localhost", "request.remote"),
        *("Age", "Raises", "Warning", "RWF_NOWAIT", "TCP_NOTSENT_LOWAT", "TCP_USER_TIMEOUT"),
        *("fsGroup", "ijson", "next_page", "nfpm", "ns", "publicsuffixlist", "tldextract"),
    }
)
_STANDARD = frozenset({"asyncio", "os", "socket", "ssl"})


@dataclass(frozen=True)
class Names:
    """The names in a part of the code: defined ones, all that are used, and whole texts."""

    defined: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)


def names(tree: ast.AST) -> Names:
    """Return the names in a module or class."""
    found = Names()
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                found.defined.add(name)
            case ast.AsyncFunctionDef(name=name) | ast.arg(arg=name):
                found.defined.add(name)
            case ast.Name(id=name, ctx=context) | ast.Attribute(attr=name, ctx=context):
                (found.defined if isinstance(context, ast.Store) else found.used).add(name)
            case ast.alias(name=name):
                found.used.update(name.split("."))
            case ast.keyword(arg=str(name)):
                found.used.add(name)
            case ast.Constant(value=str(text)) if "\n" not in text:
                found.used.update(_NAME.findall(text))
                found.texts.add(text)
    found.used.update(found.defined)
    return found


@dataclass(frozen=True)
class Code:
    """The names of all modules and classes, by path and by name.

    `known` are the names of definitions, folders and modules, whole texts, and columns of tables.
    """

    known: set[str] = field(default_factory=set)
    modules: dict[str, Names] = field(default_factory=dict)
    classes: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    bases: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def read(self, path: str, text: str) -> None:
        """Enter the names of a module."""
        tree = ast.parse(text)
        found = self.modules[path] = names(tree)
        self.known.update(found.defined, found.texts, Path(path).with_suffix("").parts)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                self.classes[node.name] |= names(node).defined
                self.bases[node.name] |= {ast.unparse(base).split("[")[0] for base in node.bases}

    def has_file(self, path: str, name: str | None = None) -> bool:
        """Whether there is such a file, by the end of its path, and it defines the name."""
        found = [each for each in self.modules if f"/{each}".endswith(f"/{path}")]
        return any(name is None or name in self.modules[each].defined for each in found)

    def has_class(self, name: str, member: str | None = None) -> bool:
        """Whether there is such a class, and it or a base of it has the member."""
        if name not in self.classes:
            return False
        return (
            member is None
            or member in self.classes[name]
            or any(self.has_class(base, member) for base in self.bases[name])
        )

    def has_member(self, module: str, name: str) -> bool:
        """Whether a module, of the mirror or of the standard library, has this name."""
        if module in _STANDARD:
            return hasattr(importlib.import_module(module), name)
        return self.has_file(f"{module}.py", name)

    def defines(self, name: str) -> bool:
        """Whether any module defines this name, or has it as a text, such as a command."""
        return name in self.known


def read_code() -> Code:
    """Return the names of the mirror, its tests and benchmarks."""
    code = Code()
    for room in ("mirror", "tests", "bench"):
        for path in (PROJECT / room).rglob("*.py"):
            code.read(str(path.relative_to(PROJECT)), path.read_text())
    for path in (PROJECT / "mirror").rglob("*.sql"):
        code.known.update(_NAME.findall(path.read_text()))
    return code


CODE = read_code()


def quoted(text: str) -> Iterator[str]:
    """Return the backquoted names of a text, without its blocks of code."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from (each.strip().removesuffix("()") for each in _QUOTED.findall(text))


def exists(name: str, code: Code, around: Names | None = None) -> bool:
    """Whether a backquoted name exists; True for a text that is no name, such as a command.

    `around` are the names of the docstring's module: a docstring may name its variables.
    """
    if name in _FOREIGN or keyword.iskeyword(name):
        return True
    if around and all(part in around.used for part in name.split(".")):
        return True
    if file := _FILE.fullmatch(name):
        return code.has_file(file[1], file[2])
    if part := _CLASS.fullmatch(name):
        return code.has_class(part[1], part[2]) or (not part[2] and code.defines(part[1]))
    if part := _DOTTED.fullmatch(name):
        return code.has_member(part[1], part[2])
    return not _NAME.fullmatch(name) or hasattr(builtins, name) or code.defines(name)


def documented(path: str) -> Iterator[str]:
    """Return the backquoted names in the docstrings of a module."""
    for node in ast.walk(ast.parse((PROJECT / path).read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from quoted(ast.get_docstring(node) or "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_name_in_the_docs_exists(page: Path) -> None:
    found = set(quoted(page.read_text()))
    if page.name not in OF_THE_DESIGN:  # these name keys, metrics and commands: see test_docs.py
        found = {name for name in found if _FILE.fullmatch(name)}
    assert not [name for name in sorted(found) if not exists(name, CODE)]


def test_each_name_in_a_docstring_exists() -> None:
    missing = [
        f"{path}: {name}"
        for path, around in CODE.modules.items()
        if path.startswith("mirror/")
        for name in documented(path)
        if not exists(name, CODE, around)
    ]
    assert not missing, "\n".join(missing)


def test_names_that_exist_are_told_from_those_that_do_not() -> None:
    code = Code()
    code.read("mirror/room/parts.py", "class Part(Base):\n    def move(self) -> None: ...\n")
    code.read(
        "mirror/room/base.py", "class Base:\n    size: int = 0\n\n\ndef begin() -> None: ...\n"
    )
    there = "parts.py", "room/base.py: Base", "Part.move", "Part.size", "base.begin", "move", "a b"
    gone = "part.py", "parts.py: Base", "Whole", "Part.turn", "Whole.move", "parts.begin", "turn"
    assert [name for name in there if not exists(name, code)] == []
    assert [name for name in gone if exists(name, code)] == []
