"""A tutorial as steps: what is typed, and what is to be printed, as a pattern."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FENCED = re.compile(r"^## ([^\n]*)$|^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPACES = re.compile(r"(?:\\ )+")
_NUMBER = re.compile(r"\d+(?:\\?\.\d+)*")


@dataclass(frozen=True)
class Step:
    """A block of commands, and the block of output below it, if there is one."""

    section: str
    typed: str
    shown: str = ""

    def is_like(self, printed: str) -> bool:
        """Tell whether a print is as shown: the same text, other numbers; a 0 stays 0.

        Columns may be of another width. A line of `…` alone is any number of lines; within a line
        it is any text.
        """
        return re.fullmatch(_pattern(self.shown), printed) is not None if self.shown else True


def steps(page: str) -> list[Step]:
    """Return the steps of a page, in order."""
    found: list[Step] = []
    section = ""
    for heading, language, block in _FENCED.findall(page):
        if heading:
            section = heading
        elif language == "sh":
            found.append(Step(section, block))
        else:
            last = found.pop()
            assert not last.shown, "two outputs of one block"
            found.append(Step(section, last.typed, block))
    return found


def _pattern(shown: str) -> str:
    return "".join(map(_line, shown.splitlines()))


def _line(line: str) -> str:
    if line.strip() == "…":
        return r"(?:.*\n)*?"
    escaped = re.escape(line).replace("…", ".*")
    return _SPACES.sub(" +", _NUMBER.sub(_number, escaped)) + r"\n"


def _number(found: re.Match[str]) -> str:
    return "0" if found[0] == "0" else r"(?!0\b(?!\.))\d+(?:\.\d+)*"
