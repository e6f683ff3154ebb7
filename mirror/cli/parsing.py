"""The parser: the commands, of which only the one that was typed is loaded."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import mirror

# What each command does, in the order of the help. A command's module has its name, with `add`,
# which adds its arguments to a parser, and `run`, which takes these and returns an exit code.
COMMANDS = {
    "serve": "run the mirror",
    "check": "say what is wrong with the configuration, and whether upstreams answer",
    "config": "print the configuration in force, and where each value comes from",
    "client-config": "write a client's configuration for this mirror",
    "budget": "print what is left of the pull limits",
    "du": "print what takes the space, by image",
    "verify": "hash kept files again, and discard damaged ones",
    "gc": "remove what is of no use, and keep the bound",
    "purge": "remove an image, a repository, or content by its digest",
    "reload": "have the running mirror read its configuration anew",
    "healthcheck": "say whether the mirror runs, for containers and supervisors",
    "completion": "print a script that completes commands and flags in a shell",
}


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and where help is, and exit with 2."""
        self.exit(2, f"mirror: {message}; `{self.prog} --help` says what is allowed\n")


def typed(words: Sequence[str]) -> str:
    """Return the command of a command line, "" if there is none."""
    return next((word for word in words if not word.startswith("-")), "")


def parser(words: Sequence[str]) -> Parser:
    """Make the parser for a command line; other commands than its own have no arguments."""
    made = Parser(prog="mirror", description=mirror.__doc__, allow_abbrev=False)
    made.add_argument("--version", action="version", version=f"mirror {mirror.__version__}")
    commands = made.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    command = typed(words)
    for name, about in COMMANDS.items():
        each = commands.add_parser(name, help=about, allow_abbrev=False)
        if name == command:
            module = import_module(f"mirror.cli.{name.replace('-', '_')}")
            module.add(each)
            each.set_defaults(run=module.run)
            each.description = each.description or f"{about[0].upper()}{about[1:]}."
    return made
