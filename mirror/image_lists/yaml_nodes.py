"""YAML as a tree of texts, each with its line; bounded for every document.

All scalars stay text: `tag: 1.10` is not 1.1. The tree is made from the parser's events, as the
composer of libyaml's binding overflows the stack of the process with 100,000 brackets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

import yaml

_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # without libyaml, thirty times slower
_DEEPEST = 64  # levels; Kubernetes' documents have some twenty
_MOST_MERGED = 100_000  # pairs that `<<` copies: a short file may stand for millions of them
_BEGIN = re.compile(r"^---(?=\s|$)", re.MULTILINE)
_DIRECTIVE = re.compile(r"^%.*$", re.MULTILINE)
# `helm install --dry-run` ends with free text; at this place no YAML document continues.
_NOTES = re.compile(r"^NOTES:$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Text:
    """A scalar."""

    text: str
    line: int
    height: int = 0


@dataclass(slots=True)
class Items:
    """A sequence; `height` is the number of levels below it."""

    line: int
    items: list[Node] = field(default_factory=list)
    height: int = 0


@dataclass(slots=True)
class Table:
    """A mapping with texts as keys; those of its merge keys (`<<`) are among them.

    An `odd` one has other keys, too, as a template in braces looks to YAML.
    """

    line: int
    pairs: dict[str, Node] = field(default_factory=dict)
    height: int = 0
    odd: bool = False

    def text(self, key: str) -> str | None:
        """Return the text of a key; None if it has none, or something else."""
        found = self.pairs.get(key)
        return found.text if isinstance(found, Text) else None

    def table(self, key: str) -> Table | None:
        """Return the mapping of a key; None if it has none, or something else."""
        found = self.pairs.get(key)
        return found if isinstance(found, Table) else None


Node: TypeAlias = Text | Items | Table


class BadDocument(Exception):
    """A document is not YAML, or is beyond a bound; `line` is from 1."""

    def __init__(self, reason: str, line: int) -> None:
        super().__init__(reason)
        self.line = line


def documents(text: str) -> Iterator[tuple[str, int]]:
    """Split a stream into its documents, each with its first line: one bad one spoils no other."""
    text = _DIRECTIVE.sub("", text)
    begins = [0, *(found.end() for found in _BEGIN.finditer(text)), len(text) + 3]
    line = 1
    for begin, end in pairwise(begins):
        document = text[begin : end - 3]
        yield _NOTES.split(document, maxsplit=1)[0], line
        line += document.count("\n")


def read(document: str, line: int) -> Node | None:
    """Read one document that begins at a line; None if it is empty. Raises BadDocument."""
    try:
        return _Builder(line).build(document)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = line + (mark.line if mark else 0)
        problem = getattr(error, "problem", None) or "a character that YAML does not allow"
        raise BadDocument(f"is not YAML: {problem}", at) from None


class _Builder:
    """Makes the tree of one document from its events."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._open: list[Items | Table] = []
        self._anchors: list[str | None] = []  # of the open ones
        self._keys: list[list[Node]] = []  # keys and values of the open mappings, in turn
        self._known: dict[str, Node] = {}
        self._merged = 0
        self._root: Node | None = None

    def build(self, document: str) -> Node | None:
        """Return the root."""
        for event in yaml.parse(document, Loader=_LOADER):
            line = self._first + (event.start_mark.line if event.start_mark else 0)
            match event:
                case yaml.ScalarEvent():
                    self._put(Text(event.value, line), event.anchor)
                case yaml.AliasEvent():
                    self._put(self._known.get(event.anchor or "") or Text("", line), None)
                case yaml.SequenceStartEvent():
                    self._begin(Items(line), event.anchor, line)
                case yaml.MappingStartEvent():
                    self._begin(Table(line), event.anchor, line)
                case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                    self._end(line)
        return self._root

    def _begin(self, node: Items | Table, anchor: str | None, line: int) -> None:
        self._open.append(node)
        self._anchors.append(anchor)
        self._keys.append([])
        if len(self._open) > _DEEPEST:
            raise BadDocument(f"is nested more than {_DEEPEST} levels deep", line)

    def _end(self, line: int) -> None:
        node, anchor, children = self._open.pop(), self._anchors.pop(), self._keys.pop()
        if isinstance(node, Items):
            node.items = children
        else:
            self._fill(node, children, line)
        node.height = 1 + max((each.height for each in children), default=0)
        if node.height > _DEEPEST:  # by aliases, which add a level each
            raise BadDocument(f"is nested more than {_DEEPEST} levels deep", line)
        self._put(node, anchor)

    def _fill(self, table: Table, children: list[Node], line: int) -> None:
        merged: list[Table] = []
        for key, value in zip(children[::2], children[1::2], strict=False):
            if not isinstance(key, Text):
                table.odd = True
            elif key.text == "<<":
                each = value.items if isinstance(value, Items) else [value]
                merged += [one for one in each if isinstance(one, Table)]
            else:
                table.pairs[key.text] = value
        for other in merged:
            self._merged += len(other.pairs)
            if self._merged > _MOST_MERGED:
                raise BadDocument(f"merges more than {_MOST_MERGED} keys", line)
            table.pairs = other.pairs | table.pairs

    def _put(self, node: Node, anchor: str | None) -> None:
        """Add a node to the open one. An anchor is known once its node is whole: no circles."""
        if anchor is not None:
            self._known[anchor] = node
        if self._keys:
            self._keys[-1].append(node)
        else:
            self._root = node
