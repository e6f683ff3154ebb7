"""Dockerfiles: the images that a build pulls, by FROM, COPY --from, RUN --mount and syntax."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from mirror.image_lists.found import ImageList
from mirror.image_lists.variables import Unset, substitute
from mirror.oci.errors import shown

_SYNTAX = re.compile(r"#\s*syntax\s*=\s*(\S+)", re.IGNORECASE)
_DIRECTIVE = re.compile(r"#\s*([a-z]+)\s*=\s*(\S+)", re.IGNORECASE)
_HEREDOC = re.compile(r"<<-?[\"']?([A-Za-z_]\w*)[\"']?", re.ASCII)
_FLAG = re.compile(r"--([a-z]+)=(\S+)")
# The builder's own values, which are not known before a build: they choose no platform here.
_OWN = {
    f"{of}{what}": ""
    for of in ("BUILD", "TARGET")
    for what in ("PLATFORM", "OS", "ARCH", "VARIANT")
}


def read_dockerfile(text: str, found: ImageList) -> None:
    """Add the images of a Dockerfile; stages, `scratch` and unknown variables are no images."""
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):  # parser directives precede everything else
        directive = _DIRECTIVE.match(line.strip())
        if directive is None:
            break
        if syntax := _SYNTAX.match(line.strip()):
            found.add(syntax[1], number)
    _Build(found).read(lines)


def _instructions(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Yield the first line's number and the text of each instruction, its lines joined."""
    escape = _escape(lines)
    pending, begun, until = "", 0, ""
    for number, line in enumerate(lines, 1):
        bare = line.strip()
        if until:  # within a here-document
            until = "" if bare == until else until
            continue
        if not bare or bare.startswith("#"):
            continue
        begun = begun or number
        if bare.endswith(escape):
            pending += bare.removesuffix(escape) + " "
            continue
        whole, pending = pending + bare, ""
        yield begun, whole
        begun = 0
        heredoc = _HEREDOC.search(whole) if whole[:4].upper() in ("RUN ", "COPY", "ADD ") else None
        until = heredoc[1] if heredoc else ""


def _escape(lines: list[str]) -> str:
    for line in lines:
        directive = _DIRECTIVE.match(line.strip())
        if directive is None:
            break
        if directive[1].lower() == "escape" and directive[2] == "`":
            return "`"
    return "\\"


class _Build:
    """One reading: the arguments before the first stage, and the names of the stages so far."""

    def __init__(self, found: ImageList) -> None:
        self._found = found
        self._arguments: dict[str, str] = dict(_OWN)
        self._stages: set[str] = set()
        self._begun = False

    def read(self, lines: list[str]) -> None:
        """Read all instructions."""
        for number, instruction in _instructions(lines):
            word, _, rest = instruction.partition(" ")
            match word.upper():
                case "ARG" if not self._begun:
                    self._argument(rest)
                case "FROM":
                    self._from(rest.split(), number)
                case "COPY" | "ADD":
                    self._copy(rest.split(), number)
                case "RUN":
                    self._mounts(rest.split(), number)

    def _argument(self, rest: str) -> None:
        for each in rest.split():
            name, equals, value = each.partition("=")
            if equals:
                self._arguments[name] = _known(value.strip("\"'"), self._arguments) or ""

    def _from(self, words: list[str], number: int) -> None:
        self._begun = True
        platform = None
        while words and (flag := _FLAG.fullmatch(words[0])):
            if flag[1] == "platform":
                platform = _known(flag[2], self._arguments) or None
            words = words[1:]
        if not words:
            self._found.skip(number, "FROM names no image")
            return
        self._add(words[0], number, platform)
        if len(words) >= 3 and words[1].upper() == "AS":
            self._stages.add(words[2].lower())

    def _copy(self, words: list[str], number: int) -> None:
        for word in words:
            flag = _FLAG.fullmatch(word)
            if flag is None:
                return
            if flag[1] == "from" and not flag[2].isdigit():
                self._add(flag[2], number)

    def _mounts(self, words: list[str], number: int) -> None:
        for word in words:
            flag = _FLAG.fullmatch(word)
            if flag is None:
                return
            options = dict(each.partition("=")[::2] for each in flag[2].split(","))
            if flag[1] == "mount" and (source := options.get("from")) and not source.isdigit():
                self._add(source, number)

    def _add(self, text: str, number: int, platform: str | None = None) -> None:
        try:
            name = substitute(text.strip("\"'"), self._arguments)
        except Unset as error:
            self._found.skip(number, f"{shown(text)} is skipped: {error}")
            return
        if name.lower() not in (*self._stages, "scratch"):
            self._found.add(name, number, platform)


def _known(text: str, values: Mapping[str, str]) -> str | None:
    """Return a text with its variables replaced; None if one has no value."""
    try:
        return substitute(text, values)
    except Unset:
        return None
