"""Print docs/commands.md: each command as its parser has it. `make pages` writes it there."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator

from mirror.cli.key_names import GROUPS, flag
from mirror.cli.parser import COMMANDS, Parser, parser

HEAD = """\
# Commands

This page is made from the commands' own parsers by `make pages`; a test compares it with them.
`mirror COMMAND --help` prints the same on a terminal.

| Command | What it does |
|---|---|
{rows}

`mirror --version` prints the version.

**Exit codes**: 0 is success. 1 means that a part failed, or that the answer is no. 2 means that the
command could not run; the reason is in one line. [operations.md](operations.md#look-after-it) has
what 1 means for the commands that look after the cache.

**Which mirror**: `--config FILE` or `MIRROR_CONFIG` names the configuration; see
[configuration.md](configuration.md).
"""
_KEYS = {flag(name) for names in GROUPS.values() for name in names} - {"--data-dir"} | {
    "--upstream"
}


def page() -> str:
    """Return the text of the page."""
    rows = "\n".join(
        f"| [`{name}`](#mirror-{name}) | {_cell(COMMANDS[name])} |" for name in COMMANDS
    )
    return "\n".join([HEAD.format(rows=rows), *(_section(name) for name in COMMANDS)])


def _section(name: str) -> str:
    command = _parser(name)
    told = filter(None, (command.description, command.epilog))
    about = [f"## mirror {name}", *(textwrap.fill(" ".join(text.split()), 100) for text in told)]
    table = [_row(each) for each in _arguments(name, command)]
    if table:
        about.append("\n".join(["| Argument | What it is |", "|---|---|", *table]))
    return "\n\n".join(about) + "\n"


def _parser(name: str) -> Parser:
    made = parser([name])
    [commands] = [each for each in made._actions if isinstance(each, argparse._SubParsersAction)]
    found = commands.choices[name]
    assert isinstance(found, Parser)
    return found


def _flags(command: Parser) -> set[str]:
    return {word for each in command._actions for word in each.option_strings}


def _arguments(name: str, command: Parser) -> Iterator[argparse.Action]:
    for each in sorted(command._actions, key=lambda each: bool(each.option_strings)):
        is_key = name != "serve" and _KEYS.intersection(each.option_strings)
        hidden = is_key or each.help == argparse.SUPPRESS
        if not isinstance(each, argparse._HelpAction) and not hidden:
            yield each


def _row(argument: argparse.Action) -> str:
    words = " ".join(filter(None, [", ".join(argument.option_strings), _value(argument)]))
    about = (argument.help or "").replace("%(default)s", str(argument.default)).replace("%%", "%")
    return f"| `{words}` | {_cell(about)} |"


def _value(argument: argparse.Action) -> str:
    if argument.nargs == 0:
        return ""
    choices = "|".join(map(str, argument.choices or ()))
    shown = str(argument.metavar or choices or argument.dest.upper()).replace("|", "\\|")
    many = argument.nargs in ("*", "+", argparse.REMAINDER)
    return f"{shown} …" if many else shown


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("**", "`**`")


if __name__ == "__main__":
    print(page(), end="")
